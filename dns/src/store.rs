//! The last good zone on disk: a name server that starts when nobody else is alive answers from
//! it (I-31). One JSON object, its checksum beside the zone; a damaged file is put aside and never
//! served.

use failover::zone::Zone;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The only form there is; another number is another program's (I-28: unknown means reject).
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    /// CRC-32 of the bytes of `zone` as they stand in the file.
    crc32: u32,
    zone: Box<RawValue>,
}

/// Why the file was not served.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{}: damaged: {reason}; put aside as {}", path.display(), aside.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
        /// Where it is now.
        aside: PathBuf,
    },
}

/// Where a server's zone lies.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store in the folder `data`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(data)
            .map_err(|source| StoreError::Io { path: data.to_path_buf(), source })?;
        Ok(Self { path: data.join("zone.json") })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The zone that was written last; `None` when none ever was.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] once: the file is then aside, and the next call finds none.
    pub fn load(&self) -> Result<Option<Zone>, StoreError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        match decode(&bytes) {
            Ok(zone) => Ok(Some(zone)),
            Err(reason) => {
                let mut aside = OsString::from(&self.path);
                aside.push(".damaged");
                let aside = PathBuf::from(aside);
                fs::rename(&self.path, &aside).map_err(|source| self.io(source))?;
                Err(StoreError::Damaged { path: self.path.clone(), reason, aside })
            }
        }
    }

    /// Writes a zone; once it returns `Ok` the zone survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the file is then as it was.
    pub fn save(&self, zone: &Zone) -> Result<(), StoreError> {
        let bytes = encode(zone).map_err(|error| self.io(error.into()))?;
        wire::files::write_durably(&self.path, &bytes).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), source }
    }
}

fn encode(zone: &Zone) -> Result<Vec<u8>, serde_json::Error> {
    let zone = to_raw_value(zone)?;
    let crc32 = crc32fast::hash(zone.get().as_bytes());
    serde_json::to_vec(&File { format: FORMAT, crc32, zone })
}

/// Reads the file's bytes.
///
/// # Errors
/// What does not fit.
pub fn decode(bytes: &[u8]) -> Result<Zone, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("format {} and not {FORMAT}", file.format));
    }
    let crc32 = crc32fast::hash(file.zone.get().as_bytes());
    if crc32 != file.crc32 {
        return Err(format!("checksum {crc32} and not {}", file.crc32));
    }
    serde_json::from_str(file.zone.get()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_noticed() {
        let zone = Zone { version: 7, origin: "db.example.".into(), ..Zone::default() };
        let good = encode(&zone).expect("a zone is JSON");
        assert_eq!(decode(&good), Ok(zone.clone()));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // White space outside the zone may change; the zone may not.
                assert!(decode(&bad).map_or(true, |read| read == zone), "byte {at}, bit {bit}");
            }
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
