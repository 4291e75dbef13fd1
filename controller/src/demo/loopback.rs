//! The demo's own SSH server: on 127.0.0.1, for one key, each connection a shell in one folder.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey, ssh_key};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Bytes that are passed on at a time.
const PART: usize = 32 * 1024;

/// A new ed25519 key.
pub(crate) fn new_key() -> std::io::Result<PrivateKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}

/// The key as a private key file has it.
pub(crate) fn private_text(key: &PrivateKey) -> Result<String, ssh_key::Error> {
    Ok(key.to_openssh(ssh_key::LineEnding::LF)?.to_string())
}

/// Its public half as known_hosts has it.
pub(crate) fn public_text(key: &PrivateKey) -> Result<String, ssh_key::Error> {
    key.public_key().to_openssh()
}

/// A server that runs until it is dropped.
pub(crate) struct LoopbackServer {
    pub(crate) port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoopbackServer {
    /// Listens on a free port; commands run in `home` with that as HOME and TMPDIR.
    pub(crate) async fn start(
        host_key: PrivateKey,
        client: &PrivateKey,
        home: PathBuf,
    ) -> std::io::Result<Self> {
        let client = client.public_key().clone();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let config =
            Arc::new(server::Config { keys: vec![host_key], nodelay: true, ..server::Config::default() });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shell = Shell { client: client.clone(), home: home.clone(), channels: HashMap::new() };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, shell).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Ok(Self { port, task })
    }
}

struct Shell {
    client: PublicKey,
    home: PathBuf,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl server::Handler for Shell {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let is_known = key.public_key.key_data() == self.client.key_data();
        Ok(if is_known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(channel) = self.channels.remove(&id) else { return Ok(()) };
        let command = String::from_utf8_lossy(command).into_owned();
        session.channel_success(id)?;
        let home = self.home.clone();
        tokio::spawn(async move {
            let _ = run(channel, &command, home).await;
        });
        Ok(())
    }
}

/// Runs a command between the ends of a channel.
async fn run(channel: Channel<Msg>, command: &str, home: PathBuf) -> Result<(), russh::Error> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(&home)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut reader, writer) = channel.split();
    let feed = tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(message) = reader.wait().await {
            match message {
                ChannelMsg::Data { data } if stdin.write_all(&data).await.is_err() => return,
                ChannelMsg::Eof | ChannelMsg::Close => return,
                _ => {}
            }
        }
    });
    let out = async { pass(stdout, &writer, None).await };
    let err = async { pass(stderr, &writer, Some(1)).await };
    let (out, err) = tokio::join!(out, err);
    out.and(err)?;
    let status = child.wait().await?;
    feed.abort();
    writer.exit_status(status.code().unwrap_or(255).unsigned_abs()).await?;
    writer.eof().await?;
    writer.close().await
}

async fn pass(
    pipe: Option<impl AsyncRead + Unpin>,
    writer: &ChannelWriteHalf<Msg>,
    stream: Option<u32>,
) -> Result<(), russh::Error> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; PART];
    loop {
        let n = pipe.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        match stream {
            None => writer.data_bytes(bytes.to_vec()).await?,
            Some(stream) => writer.extended_data_bytes(stream, bytes.to_vec()).await?,
        }
    }
}
