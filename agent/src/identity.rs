//! The agent's TLS files as PostgreSQL needs them: copies of its own that belong to the right
//! user, and a copy of the key for each epoch that is followed, so that a key can be taken away.

use crate::config::Config;
use crate::layout::Layout;
use failover::Epoch;
use std::io;

/// Copies certificate, key and authority into the run directory, when they can be read; started as
/// root, the agent copied them before it gave that up.
///
/// # Errors
/// Neither the files nor earlier copies are readable.
pub fn install(config: &Config, layout: &Layout) -> io::Result<()> {
    let files = [
        ("ca.crt", &config.tls.ca),
        ("tls.crt", &config.tls.certificate),
        ("tls.key", &config.tls.key),
    ];
    for (name, source) in files {
        let copy = layout.tls(name);
        match std::fs::read(source) {
            Ok(bytes) => {
                if std::fs::read(&copy).ok().as_ref() != Some(&bytes) {
                    wire::files::write_secret(&copy, &bytes)?;
                }
            }
            Err(error) => {
                if !copy.exists() {
                    let text = format!("{}: {error}", source.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
    }
    Ok(())
}

/// The copies, for the agent's own HTTP.
pub fn installed(layout: &Layout) -> wire::tls::Files {
    wire::tls::Files {
        ca: layout.tls("ca.crt"),
        certificate: layout.tls("tls.crt"),
        key: layout.tls("tls.key"),
    }
}

/// Makes the key usable for following the primary of an epoch.
///
/// # Errors
/// Those of the file system.
pub fn allow_stream(layout: &Layout, epoch: Epoch) -> io::Result<()> {
    let key = std::fs::read(layout.tls("tls.key"))?;
    crate::layout::replace(&layout.stream_key(epoch), &key)
}

/// Takes away the keys of every epoch but one: a receiver that starts with an old
/// `primary_conninfo` cannot prove who it is any more. Done again before every start.
///
/// # Errors
/// Those of the file system.
pub fn forbid_streams(layout: &Layout, but: Option<Epoch>) -> io::Result<()> {
    let folder = layout.run.join("stream");
    let kept = but.map(|epoch| layout.stream_key(epoch));
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if Some(&path) != kept.as_ref() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
