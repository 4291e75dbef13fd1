//! Waits until a service that was started takes requests.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pulpcov_protocol::ready::{Check, Ready};

use crate::failure::Failure;
use crate::host::{caller, services, systemd};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(200);

/// Most of an HTTP answer that is read: its status stands in its first line.
const MAX_HEAD: u64 = 1024;

/// Waits for all of it. The failure has the last log lines of the units.
pub(crate) fn wait(wanted: &[Ready], units: &[String]) -> Result<(), Failure> {
    for ready in wanted {
        let check = ready.check().map_err(|error| Failure::new(format!("ready: {error}")))?;
        let deadline = Instant::now() + Duration::from_secs_f64(ready.timeout);
        while let Err(reason) = ask(&check) {
            if Instant::now() > deadline {
                let msg = format!("{} is not ready after {} s: {reason}", ready.title(), ready.timeout);
                let logs: Vec<String> =
                    units.iter().map(|unit| format!("{unit}: {}", systemd::last_log_lines(unit))).collect();
                let failure = Failure::new(msg);
                return Err(if logs.is_empty() { failure } else { failure.hint(logs.join("; ")) });
            }
            caller::still_listens()?;
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Whether it is so now, or why not.
fn ask(check: &Check) -> Result<(), String> {
    match check {
        Check::Tcp(addresses) => connect(addresses).map(drop),
        Check::Unix(path) => UnixStream::connect(path).map(drop).map_err(|error| error.to_string()),
        Check::Http { host, port, path, status } => {
            let stream = connect(&[(host.clone(), *port)])?;
            let found = http_status(stream, host, path).map_err(|error| error.to_string())?;
            if found == Some(*status) {
                return Ok(());
            }
            Err(found.map_or("no HTTP answer".to_owned(), |found| format!("status {found}")))
        }
        Check::Command(command) => run(command),
    }
}

fn connect(addresses: &[(String, u16)]) -> Result<TcpStream, String> {
    let mut reason = "no address".to_owned();
    for (host, port) in addresses {
        let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| error.to_string())?;
        for address in found {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => reason = error.to_string(),
            }
        }
    }
    Err(reason)
}

/// The status that a GET brings, if what came is HTTP.
fn http_status(mut stream: TcpStream, host: &str, path: &str) -> std::io::Result<Option<u16>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pulpcov\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    stream.take(MAX_HEAD).read_to_end(&mut head).or_else(|error| {
        // What came before somebody hung up may be enough.
        if head.is_empty() { Err(error) } else { Ok(0) }
    })?;
    Ok(status_of(&String::from_utf8_lossy(&head)))
}

fn status_of(head: &str) -> Option<u16> {
    let line = head.lines().next()?.strip_prefix("HTTP/")?;
    line.split(' ').nth(1)?.parse().ok()
}

fn run(command: &str) -> Result<(), String> {
    let child = services::shell(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let ended = child.and_then(|mut child| services::end_of(&mut child, PATIENCE));
    match ended.map_err(|error| error.to_string())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("it ends with {status}")),
        None => Err(format!("it takes longer than {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ready(json: &str) -> Vec<Ready> {
        vec![serde_json::from_str(json).expect("JSON")]
    }

    #[test]
    fn a_server_is_waited_for_until_it_says_what_it_should() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = std::thread::spawn(move || {
            for status in ["503 Busy", "200 OK"] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let read = stream.read(&mut request).expect("a request");
                assert!(request[..read].starts_with(b"GET /status/?x HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("answered");
            }
        });
        let url = format!(r#"{{"url": "http://127.0.0.1:{port}/status/?x", "timeout": 30}}"#);
        wait(&ready(&url), &[]).expect("ready at the second try");
        server.join().expect("asked twice");
    }

    #[test]
    fn what_never_comes_is_named_with_the_reason() {
        let error =
            wait(&ready(r#"{"command": "exit 3", "timeout": 1}"#), &[]).expect_err("it never ends well");
        assert_eq!(error.msg, "exit 3 is not ready after 1 s: it ends with exit status: 3");
        let error = wait(&ready(r#"{"socket": "/nowhere/socket", "timeout": 1}"#), &[]).expect_err("none");
        assert!(
            error.msg.starts_with("socket /nowhere/socket is not ready after 1 s: No such file"),
            "{}",
            error.msg
        );
    }
}
