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

    fn compose(&self, mounts: &[(String, String)]) -> String {
        let mut text = "# docker compose -f compose.yml -f DIR/compose.override.yml --project-directory DIR up\nservices:\n".to_owned();
        for service in self.services {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {}:\n    environment:\n      PULPCOV: \"1\"\n    volumes:",
                quoted(service)
            );
            let _ = writeln!(text, "      - {}", quoted(&format!("./lib:{}:ro", self.lib_root)));
            for (from, to) in mounts {
                let _ = writeln!(text, "      - {}", quoted(&format!("./{from}:{to}:ro")));
            }
            let _ = writeln!(text, "      - {}", quoted(&format!("./data:{}", self.data_root)));
        }
        text
    }

    /// A strategic merge patch of a Deployment. The image of the init container is the one that the Containerfile makes.
    fn kubernetes(&self, mounts: &[(String, String)]) -> String {
        let mut copy = format!("cp -a {}/. /pulpcov/lib/ && mkdir -p /pulpcov/site", self.lib_root);
        for (place, (_, to)) in mounts.iter().enumerate() {
            let _ = write!(copy, " && cp -p {to} /pulpcov/site/{place}");
        }
        copy.insert_str(0, "mkdir -p /pulpcov/lib /data/.pulpcov && chmod 1777 /data/.pulpcov && ");
        let mut text = format!(
            "# kubectl patch deployment NAME --patch-file kubernetes.yml\n# IMAGE is what the Containerfile makes: podman build -t IMAGE DIR\n\
             spec:\n  template:\n    spec:\n      initContainers:\n        - name: pulpcov\n          image: IMAGE\n          \
             command: [\"/bin/sh\", \"-c\", {}]\n          volumeMounts:\n            - {{name: pulpcov, mountPath: /pulpcov}}\n            \
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

    pub(super) fn next_steps(&self, output: &Path) -> String {
        let folder = output.display();
        format!(
            "as a layer:  podman build -t IMAGE {folder}\n\
             as volumes:  {folder}/compose.override.yml, {folder}/kubernetes.yml\n\
             The hook is still until PULPCOV=1 stands in a container's environment.\n\
             Data goes to {}: collect it before a container goes, or put a volume there.\n",
            self.data_root
        )
    }
}
