//! A real Chromium, without a window, on pages of this machine.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::devtools::DevTools;

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// It may not look for anything outside.
const SWITCHES: [&str; 8] = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    // Tests run as root, and Chromium's own sandbox does not.
    "--no-sandbox",
    "--disable-dev-shm-usage",
];

pub(crate) struct Browser {
    page: DevTools,
    // After the browser that writes to it.
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start(width: u32, height: u32) -> Self {
        assert!(Path::new(CHROMIUM).exists(), "{CHROMIUM} is not here: .ci/setup --tests installs it");
        let profile = tempfile::tempdir().expect("a folder");
        let own = [
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let switches: Vec<String> = SWITCHES.map(str::to_owned).into_iter().chain(own).collect();
        let page = DevTools::start(CHROMIUM, &switches);
        for domain in ["Log", "Runtime", "Page"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.call("Page.setLifecycleEventsEnabled", json!({"enabled": true}));
        Self { page, _profile: profile }
    }

    pub(crate) fn open(&self, url: &str) {
        let result = self.page.call("Page.navigate", json!({"url": url}));
        assert!(result["errorText"].is_null(), "{url}: {}", result["errorText"]);
        // Of this page: the one before may be loading still.
        let is_loaded = |event: &Value| event["name"] == "load" && event["loaderId"] == result["loaderId"];
        self.page.wait_for("Page.lifecycleEvent", is_loaded);
    }

    pub(crate) fn open_file(&self, path: &Path) {
        self.open(&format!("file://{}", path.display()));
    }

    /// The value of an expression in the page.
    pub(crate) fn js(&self, expression: &str) -> Value {
        let words = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.page.call("Runtime.evaluate", words);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Does something in the page.
    pub(crate) fn act(&self, statements: &str) {
        let _ = self.js(&format!("(() => {{ {statements} }})()"));
    }

    /// Presses a key, as a person would.
    pub(crate) fn key(&self, key: &str) {
        let mut down = json!({"type": "keyDown", "key": key});
        // Keys with a name write nothing.
        if key.chars().count() == 1 {
            down["text"] = json!(key);
        } else {
            let code = match key {
                "Escape" => 27,
                other => panic!("what is the code of {other}?"),
            };
            down["windowsVirtualKeyCode"] = json!(code);
        }
        self.page.call("Input.dispatchKeyEvent", down);
        self.page.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    /// Clicks with the mouse.
    pub(crate) fn click(&self, selector: &str) {
        let place = self.js(&format!(
            "(() => {{
                const element = document.querySelector({0});
                element.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}});
                const box = element.getBoundingClientRect();
                return {{x: box.x + box.width / 2, y: box.y + box.height / 2}};
            }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let words =
                json!({"type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1});
            self.page.call("Input.dispatchMouseEvent", words);
        }
    }

    pub(crate) fn write(&self, selector: &str, text: &str) {
        self.click(selector);
        for c in text.chars() {
            self.key(&c.to_string());
        }
    }

    /// Everything that the console said, and every error, since the browser started.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let all = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"]
            .map(|name| self.page.events(name));
        all.iter().flatten().map(Value::to_string).collect()
    }

    fn bytes(&self, method: &str, words: Value) -> Vec<u8> {
        let result = self.page.call(method, words);
        STANDARD.decode(result["data"].as_str().expect("data")).expect("base64")
    }

    pub(crate) fn screenshot(&self, path: &Path) {
        fs_err::write(path, self.bytes("Page.captureScreenshot", json!({"format": "png"}))).expect("written");
    }

    pub(crate) fn print(&self) -> Vec<u8> {
        self.bytes("Page.printToPDF", json!({}))
    }

    /// Light or dark, as the reader's system would say.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.page.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Whether scripts run.
    pub(crate) fn scripts(&self, run: bool) {
        self.page.call("Emulation.setScriptExecutionDisabled", json!({"value": !run}));
    }
}
