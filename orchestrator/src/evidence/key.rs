//! The key that a voter signs evidence with: its own, made at its first start, and nobody else's.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::hex;

/// The file beside `voter.redb`. Delete it and start the voter again for another key: what was
/// signed before stays as it is, and both keys are on the audit record.
pub const FILE: &str = "evidence.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct KeyError {
    file: String,
    reason: String,
}

/// An Ed25519 key.
pub struct Key(Ed25519KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.public())
    }
}

impl Key {
    /// The key in `folder`; made, readable by its owner only, where there is none.
    ///
    /// # Errors
    /// [`KeyError`] when it can neither be read nor made; a damaged one is not replaced.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        let path = folder.join(FILE);
        let failed = |reason: String| KeyError { file: path.display().to_string(), reason };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let made = made.map_err(|_| failed("the kernel gives no random bytes".into()))?;
                wire::files::write_secret(&path, made.as_ref())
                    .map_err(|error| failed(error.to_string()))?;
                made.as_ref().to_vec()
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let read = Ed25519KeyPair::from_pkcs8(&bytes);
        let why = |error| format!("{error}: move it away and start the voter for a new key");
        read.map(Self).map_err(|error| failed(why(error)))
    }

    /// The public half, in hexadecimal.
    #[must_use]
    pub fn public(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}
