//! The frame of a bundle: what is told, the key, and a signature over every byte of it.

use ring::signature::{ED25519, UnparsedPublicKey};

use super::key::Key;

const BEFORE_KEY: &str = ",\"key\":\"";
const BEFORE_SIGNATURE: &str = "\",\"signature\":\"";
const END: &str = "\"}\n";

/// A kind of bundle.
pub(super) struct Frame {
    /// What is signed with the evidence, so that a signature is good for nothing else.
    purpose: &'static [u8],
    begin: &'static str,
}

/// About one change of primary.
pub(super) const TRANSITION: Frame =
    Frame { purpose: b"baton evidence 1\n", begin: "{\"evidence\":" };
/// About one drill.
pub(super) const DRILL: Frame =
    Frame { purpose: b"baton drill evidence 1\n", begin: "{\"drill_evidence\":" };

impl Frame {
    /// Whether a bundle claims to be of this kind.
    pub(super) fn is_of(&self, bundle: &str) -> bool {
        bundle.starts_with(self.begin)
    }

    /// What is told, signed.
    pub(super) fn sign(&self, body: &str, key: &Key) -> String {
        let signature = hex(&key.sign(&self.message(body)));
        let public = key.public();
        [self.begin, body, BEFORE_KEY, &public, BEFORE_SIGNATURE, &signature, END].concat()
    }

    fn message(&self, body: &str) -> Vec<u8> {
        [self.purpose, body.as_bytes()].concat()
    }

    /// What is told and the key that signed it, if it is as it was signed.
    pub(super) fn open<'a>(&self, bundle: &'a str) -> Result<(&'a str, &'a str), String> {
        let unlike = "it is no bundle of evidence, or its frame was changed";
        let rest = bundle.strip_prefix(self.begin).and_then(|rest| rest.strip_suffix(END));
        let (rest, signature) = rest.ok_or(unlike)?.rsplit_once(BEFORE_SIGNATURE).ok_or(unlike)?;
        let (body, public) = rest.rsplit_once(BEFORE_KEY).ok_or(unlike)?;
        let key = unhex(public).filter(|key| key.len() == 32).ok_or("its key is no key")?;
        let signed = unhex(signature).filter(|s| s.len() == 64).ok_or("its signature is none")?;
        UnparsedPublicKey::new(&ED25519, key).verify(&self.message(body), &signed).map_err(
            |_| "its signature is not of what it says: it was changed after it was signed",
        )?;
        Ok((body, public))
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes from hexadecimal, in lower case only.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !text.len().is_multiple_of(2) || !text.bytes().all(plain) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
