//! Connects, checks the host key, logs in, starts one command.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::{AlgorithmKind, Preferred, cipher, kex, mac};
use tokio::time::timeout;

use crate::transport::Limits;
use crate::transport::ssh::auth::authenticate;
use crate::transport::ssh::channel::Channel;
use crate::transport::ssh::destination::Destination;
use crate::transport::ssh::error::SshError;
use crate::transport::ssh::host_key::{self, Checker};
use crate::transport::ssh::keys::KeyRing;
use crate::transport::ssh::route;

/// Window of the channel. 16 MiB was five to ten times slower at 20 to 50 hosts.
const WINDOW: u32 = 2 * 1024 * 1024;

/// Packets that wait for us before the peer is held back: 1 MiB a host at most.
const CHANNEL_BUFFER: usize = 32;

/// How long a peer may be silent before it is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(15);

fn config(destination: &Destination) -> client::Config {
    let mut preferred = host_key::preferred(&destination.trust, &destination.names);
    let mut ciphers = Preferred::DEFAULT.cipher.to_vec();
    ciphers.push(cipher::AES_128_GCM);
    // Hardware does AES; half the CPU of the library's default for bulk data.
    ciphers.sort_by_key(|name| {
        [cipher::AES_256_GCM, cipher::AES_128_GCM].iter().position(|fast| fast == name).unwrap_or(usize::MAX)
    });
    preferred.cipher = Cow::Owned(ciphers);
    // What the library leaves out of its default order, and hardened or old servers have alone: last of all.
    let mut exchanges = Preferred::DEFAULT.kex.to_vec();
    exchanges.extend([kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521]);
    preferred.kex = Cow::Owned(exchanges);
    let mut macs = Preferred::DEFAULT.mac.to_vec();
    macs.extend([mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]);
    preferred.mac = Cow::Owned(macs);
    client::Config {
        window_size: WINDOW,
        channel_buffer_size: CHANNEL_BUFFER,
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        preferred,
        ..client::Config::default()
    }
}

/// A handshake's error in words: what both sides have, where they have nothing in common.
fn why(error: &russh::Error) -> String {
    match error {
        russh::Error::NoCommonAlgo { kind, ours, theirs } => {
            let what = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "kind of host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Mac => "MAC",
                AlgorithmKind::Compression => "compression",
            };
            let ours: Vec<&str> = ours
                .iter()
                .map(String::as_str)
                .filter(|name| !name.starts_with("ext-info") && !name.starts_with("kex-strict"))
                .collect();
            format!(
                "no {what} in common: the host has {}, pulpcov has {}",
                theirs.join(", "),
                ours.join(", ")
            )
        }
        error => error.to_string(),
    }
}

/// Connects, checks the host key, logs in. Nothing is sent to a host whose key is not known.
pub(super) async fn log_in(
    destination: &Destination,
    ring: &KeyRing,
    limits: Limits,
) -> Result<Handle<Checker>, SshError> {
    let link = route::open(destination, ring, limits).await?;
    let refusal = Arc::new(Mutex::new(None));
    let words = Arc::new(Mutex::new(Vec::new()));
    let checker = Checker {
        trust: Arc::clone(&destination.trust),
        names: destination.names.clone(),
        principal: destination.principal().to_owned(),
        refusal: Arc::clone(&refusal),
        words: Arc::clone(&words),
    };
    let config = Arc::new(config(destination));
    let handshake = timeout(limits.connect, client::connect_stream(config, link.stream, checker)).await;
    if let Some(refused) = refusal.lock().ok().and_then(|mut slot| slot.take()) {
        return Err(refused);
    }
    let mut handle = match handshake {
        Err(_) => return Err(destination.silent(limits.connect)),
        Ok(Err(error)) => {
            return Err(SshError::Handshake(format!("{}{}", why(&error), link.words.suffix().await)));
        }
        Ok(Ok(handle)) => handle,
    };
    timeout(limits.auth, authenticate(&mut handle, &destination.login, ring))
        .await
        .map_err(|_| SshError::AuthTimeout(limits.auth.as_secs()))?
        .map_err(|error| error.with_words(&words))?;
    Ok(handle)
}

/// Logs in and starts `command`.
pub(crate) async fn connect(
    destination: &Destination,
    ring: &KeyRing,
    limits: Limits,
    command: &str,
) -> Result<Channel, SshError> {
    let handle = log_in(destination, ring, limits).await?;
    let lost = |error: russh::Error| SshError::Lost(error.to_string());
    let inner = timeout(limits.idle, async {
        let channel = handle.channel_open_session().await.map_err(lost)?;
        channel.exec(true, command).await.map_err(lost)?;
        Ok::<_, SshError>(channel)
    })
    .await
    .map_err(|_| SshError::Lost(format!("silent for {} s", limits.idle.as_secs())))??;
    Ok(Channel::new(handle, inner))
}
