//! What engines and orchestrators are told to put a baked hook into containers. Pure: names in, texts out.

use std::fmt::Write as _;
use std::path::Path;

use super::tree::Tree;

/// What was baked, for whom.
pub(super) struct Baked<'a> {
    pub(super) image: &'a str,
    pub(super) lib_root: &'a str,
    pub(super) data_root: &'a str,
    pub(super) services: &'a [String],
    /// The folder of the bake, from the root on.
    pub(super) output: &'a Path,
}

/// A word of a shell, whatever is in it.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A text of YAML, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Baked<'_> {
    pub(super) fn files(&self, tree: &Tree) -> [(&'static str, String); 3] {
        let mounts = tree.mounts();
        [
            ("Containerfile", format!("FROM {}\nADD layer.tar /\n", self.image)),
            ("compose.override.yml", self.compose(&mounts)),
            ("kubernetes.yml", self.kubernetes(&mounts)),
        ]
    }

    /// Sources are absolute, so that the file goes with any other, wherever that lies.
    fn compose(&self, mounts: &[(String, String)]) -> String {
        // Compose reads a dollar as the beginning of a variable.
        let text_of = |text: &str| quoted(&text.replace('$', "$$"));
        let mut text = "# docker compose -f compose.yml -f THIS_FILE up\nservices:\n".to_owned();
        let bind = |text: &mut String, source: &str, target: &str, read_only: bool| {
            let source = text_of(&self.output.join(source).to_string_lossy());
            let target = text_of(target);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "      - {{type: bind, source: {source}, target: {target}, read_only: {read_only}}}"
            );
        };
        for service in self.services {
            let _ = writeln!(
                text,
                "  {}:\n    environment:\n      PULPCOV: \"1\"\n    volumes:",
                quoted(service)
            );
            bind(&mut text, "lib", self.lib_root, true);
            for (from, to) in mounts {
                bind(&mut text, from, to, true);
            }
            bind(&mut text, "data", self.data_root, false);
        }
        text
    }

    /// A strategic merge patch of a Deployment. The image of the init container is the one that the Containerfile makes.
    fn kubernetes(&self, mounts: &[(String, String)]) -> String {
        let mut copy = format!(
            "mkdir -p /pulpcov/lib /pulpcov/site /data/.pulpcov && chmod 1777 /data/.pulpcov && cp -a {}/. /pulpcov/lib/",
            word(self.lib_root)
        );
        for (place, (_, to)) in mounts.iter().enumerate() {
            let _ = write!(copy, " && cp -p {} /pulpcov/site/{place}", word(to));
        }
        let mut text = format!(
            "# kubectl patch deployment NAME --patch-file THIS_FILE\n# IMAGE is what the Containerfile makes: podman build -t IMAGE FOLDER\n\
             spec:\n  template:\n    spec:\n      initContainers:\n        - name: pulpcov\n          image: IMAGE\n          \
             command: [\"/bin/sh\", \"-c\", {}]\n          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n          \
             volumeMounts:\n            - {{name: pulpcov, mountPath: /pulpcov}}\n            \
             - {{name: pulpcov-data, mountPath: /data}}\n      containers:\n",
            quoted(&copy)
        );
        for service in self.services {
            let _ = write!(
                text,
                "        - name: {}\n          env:\n            - {{name: PULPCOV, value: \"1\"}}\n          volumeMounts:\n            \
                 - {{name: pulpcov, mountPath: {}, subPath: lib, readOnly: true}}\n",
                quoted(service),
                quoted(self.lib_root)
            );
            for (place, (_, to)) in mounts.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "            - {{name: pulpcov, mountPath: {}, subPath: site/{place}, readOnly: true}}",
                    quoted(to)
                );
            }
            let _ =
                writeln!(text, "            - {{name: pulpcov-data, mountPath: {}}}", quoted(self.data_root));
        }
        text.push_str("      volumes:\n        - {name: pulpcov, emptyDir: {}}\n        - {name: pulpcov-data, emptyDir: {}}\n");
        text
    }

    pub(super) fn next_steps(&self) -> String {
        let folder = self.output.display();
        format!(
            "as a layer:  podman build -t IMAGE {folder}\n\
             as volumes:  {folder}/compose.override.yml, {folder}/kubernetes.yml\n\
             The hook is still until PULPCOV=1 stands in a container's environment.\n\
             Data goes to {}: collect it before a container goes, or put a volume there.\n",
            self.data_root
        )
    }
}
