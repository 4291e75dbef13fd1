//! The `DevTools` protocol of Chromium over a pipe: messages of JSON, each ended by a NUL. Own code, since the crates that
//! speak it compile the whole protocol, which took a sixth of the tests' compiler time.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser that runs, and one page of it.
pub(crate) struct DevTools {
    pipe: RefCell<Pipe>,
    /// Of the page; the browser itself has none.
    session: String,
    chromium: Child,
}

struct Pipe {
    to: ChildStdin,
    from: Receiver<Value>,
    last_id: u64,
    /// What came that was no answer, since the start.
    events: Vec<Value>,
}

impl DevTools {
    /// Starts `program` with an empty page. It ends with this value.
    pub(crate) fn start(program: &str, switches: &[String]) -> Self {
        // The protocol is spoken on the descriptors 3 and 4.
        let script = "exec 3<&0 4>&1 </dev/null >/dev/null 2>&1; exec \"$@\"";
        let mut chromium = Command::new("sh")
            .args(["-c", script, "sh", program, "--headless=new", "--remote-debugging-pipe"])
            .args(switches)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let to = chromium.stdin.take().expect("piped");
        let mut from = BufReader::new(chromium.stdout.take().expect("piped"));
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            loop {
                let mut message = Vec::new();
                if !matches!(from.read_until(0, &mut message), Ok(1..)) || message.pop() != Some(0) {
                    return;
                }
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let pipe = Pipe { to, from: receiver, last_id: 0, events: Vec::new() };
        let mut browser = Self { pipe: RefCell::new(pipe), session: String::new(), chromium };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": page["targetId"], "flatten": true}));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// The result of a method, which must have one.
    pub(crate) fn call(&self, method: &str, params: Value) -> Value {
        let mut pipe = self.pipe.borrow_mut();
        pipe.last_id += 1;
        let id = pipe.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        pipe.to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        pipe.to.flush().expect("the browser listens");
        loop {
            let mut answer = pipe.next(method);
            if answer["id"] != id {
                pipe.events.push(answer);
                continue;
            }
            assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
            return answer["result"].take();
        }
    }

    /// Waits for an event of that name with such words, unless it has come already.
    pub(crate) fn wait_for(&self, event: &str, is_meant: impl Fn(&Value) -> bool) {
        let mut pipe = self.pipe.borrow_mut();
        while !pipe.events.iter().any(|come| come["method"] == event && is_meant(&come["params"])) {
            let message = pipe.next(event);
            pipe.events.push(message);
        }
    }

    /// The events of that name since the start.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let pipe = self.pipe.borrow();
        let named = pipe.events.iter().filter(|message| message["method"] == name);
        named.map(|message| message["params"].clone()).collect()
    }
}

impl Pipe {
    fn next(&self, what: &str) -> Value {
        self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

impl Drop for DevTools {
    fn drop(&mut self) {
        let _ = self.chromium.kill();
        let _ = self.chromium.wait();
    }
}
