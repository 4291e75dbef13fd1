//! A real Chromium, without a window, on pages of this machine.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption::Png;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser as Chromium, LaunchOptions, Tab};
use serde_json::Value;

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// It may not look for anything outside.
const SWITCHES: [&str; 6] = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

pub(crate) struct Browser {
    tab: Arc<Tab>,
    complaints: Arc<Mutex<Vec<String>>>,
    // Ends the program with it.
    _chromium: Chromium,
}

impl Browser {
    pub(crate) fn start(width: u32, height: u32) -> Self {
        assert!(Path::new(CHROMIUM).exists(), "{CHROMIUM} is not here: .ci/setup --tests installs it");
        let options = LaunchOptions {
            path: Some(CHROMIUM.into()),
            // Tests run as root, and Chromium's own sandbox does not.
            sandbox: false,
            window_size: Some((width, height)),
            args: SWITCHES.iter().map(std::ffi::OsStr::new).collect(),
            idle_browser_timeout: Duration::from_mins(2),
            ..LaunchOptions::default()
        };
        let chromium = Chromium::new(options).expect("Chromium starts");
        let tab = chromium.new_tab().expect("a tab");
        tab.set_default_timeout(Duration::from_mins(1));
        tab.enable_log().expect("a log");
        tab.enable_runtime().expect("a runtime");
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&complaints);
        let note = move |event: &Event| {
            let words = match event {
                Event::LogEntryAdded(entry) => {
                    let entry = &entry.params.entry;
                    Some(format!("{:?} {}", entry.level, entry.text))
                }
                Event::RuntimeExceptionThrown(thrown) => {
                    let details = &thrown.params.exception_details;
                    let what = details.exception.as_ref().and_then(|e| e.description.clone());
                    Some(format!("{} {}", details.text, what.unwrap_or_default()))
                }
                Event::RuntimeConsoleAPICalled(call) => Some(format!("console: {:?}", call.params.args)),
                _ => None,
            };
            if let (Some(words), Ok(mut list)) = (words, list.lock()) {
                list.push(words);
            }
        };
        tab.add_event_listener(Arc::new(note)).expect("listens");
        Self { tab, complaints, _chromium: chromium }
    }

    pub(crate) fn open(&self, url: &str) {
        self.tab.navigate_to(url).and_then(|tab| tab.wait_until_navigated()).expect("the page loads");
    }

    pub(crate) fn open_file(&self, path: &Path) {
        self.open(&format!("file://{}", path.display()));
    }

    /// The value of an expression in the page.
    pub(crate) fn js(&self, expression: &str) -> Value {
        let wrapped = format!("JSON.stringify({expression}) ?? 'null'");
        let result =
            self.tab.evaluate(&wrapped, true).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let text = result
            .value
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{expression}: {result:?}"));
        serde_json::from_str(text).expect("JSON")
    }

    /// Does something in the page.
    pub(crate) fn act(&self, statements: &str) {
        let _ = self.js(&format!("(() => {{ {statements} }})()"));
    }

    /// Presses a key, as a person would.
    pub(crate) fn key(&self, key: &str) {
        self.tab.press_key(key).expect("a key");
    }

    /// Clicks with the mouse.
    pub(crate) fn click(&self, selector: &str) {
        self.tab
            .find_element(selector)
            .and_then(|element| element.click().map(|_| ()))
            .unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub(crate) fn write(&self, selector: &str, text: &str) {
        self.click(selector);
        self.tab.type_str(text).expect("typed");
    }

    /// Everything that the console said, and every error, since the browser started.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("the list").clone()
    }

    pub(crate) fn screenshot(&self, path: &Path) {
        let png = self.tab.capture_screenshot(Png, None, None, true).expect("a picture");
        fs_err::write(path, png).expect("written");
    }

    pub(crate) fn print(&self) -> Vec<u8> {
        self.tab.print_to_pdf(None).expect("a PDF")
    }

    /// Light or dark, as the reader's system would say.
    pub(crate) fn prefer(&self, scheme: &str) {
        use headless_chrome::protocol::cdp::Emulation::{MediaFeature, SetEmulatedMedia};
        let feature = MediaFeature { name: "prefers-color-scheme".to_owned(), value: scheme.to_owned() };
        self.tab
            .call_method(SetEmulatedMedia { media: None, features: Some(vec![feature]) })
            .expect("pretends");
    }

    /// Whether scripts run.
    pub(crate) fn scripts(&self, run: bool) {
        use headless_chrome::protocol::cdp::Emulation::SetScriptExecutionDisabled;
        self.tab.call_method(SetScriptExecutionDisabled { value: !run }).expect("switched");
    }
}
