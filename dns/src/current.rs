//! The zone that is served now, and the one door through which another takes its place: judged,
//! then on disk, then served, then told.

use crate::accept::{Refusal, Verdict, accept};
use crate::answer::{Served, ZoneError};
use crate::store::{Store, StoreError};
use arc_swap::ArcSwapOption;
use failover::zone::Zone;
use hickory_proto::rr::{LowerName, Name};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Why an offered zone is not served.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// It may not take the place of the one that is served.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be served at all.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// It is not the zone that this server was configured for.
    #[error("the voters' zone is `{offered}`, and the configuration says `{configured}`")]
    Origin {
        /// The zone that came.
        offered: String,
        /// The zone that was meant.
        configured: String,
    },
    /// It could not be written, and nothing is served that a restart would forget.
    #[error("a newer zone is not served, for it cannot be kept: {0}")]
    Store(#[from] StoreError),
}

/// What is served.
#[derive(Debug)]
pub struct Current {
    served: ArcSwapOption<Served>,
    /// The only name that may be served, where the configuration says one.
    origin: Option<LowerName>,
    store: Store,
    /// One offer at a time: several voters send the same change.
    door: Mutex<()>,
    version: watch::Sender<u32>,
}

impl Current {
    /// Nothing yet.
    pub fn new(store: Store, origin: Option<&Name>) -> Self {
        Self {
            served: ArcSwapOption::empty(),
            origin: origin.map(LowerName::new),
            store,
            door: Mutex::new(()),
            version: watch::Sender::new(0),
        }
    }

    /// The zone, if there is one yet.
    pub fn served(&self) -> Option<Arc<Served>> {
        self.served.load_full()
    }

    /// The version that is served; 0 when there is none.
    pub fn version(&self) -> u32 {
        self.served.load().as_ref().map_or(0, |served| served.version())
    }

    /// Tells every version that comes to be served.
    pub fn changes(&self) -> watch::Receiver<u32> {
        self.version.subscribe()
    }

    /// Whether the name is of a zone that this server is surely not asked for.
    pub fn is_foreign(&self, name: &LowerName) -> bool {
        self.origin.as_ref().is_some_and(|origin| !origin.zone_of(name))
    }

    /// Serves what lies on disk (I-31). `Ok(false)`: nothing does.
    ///
    /// # Errors
    /// [`OfferError`] when it may not be served; nothing is served then.
    pub fn restore(&self) -> Result<bool, OfferError> {
        let Some(zone) = self.store.load()? else { return Ok(false) };
        let served = self.compile(zone)?;
        self.serve(served);
        Ok(true)
    }

    /// Takes a zone from a voter: the newest wins, whoever brings it.
    ///
    /// # Errors
    /// [`OfferError`]; what was served is served still.
    pub async fn offer(self: &Arc<Self>, zone: Zone) -> Result<Verdict, OfferError> {
        let _door = self.door.lock().await;
        let before = self.served();
        let verdict = accept(before.as_deref().map(Served::zone), &zone)?;
        if verdict == Verdict::Newer {
            let served = self.compile(zone)?;
            let this = Arc::clone(self);
            let written = tokio::task::spawn_blocking(move || {
                this.store.save(served.zone()).map(|()| served)
            });
            let served = written.await.unwrap_or_else(|stop| Err(this_task_ended(self, &stop)))?;
            self.serve(served);
        }
        Ok(verdict)
    }

    fn compile(&self, zone: Zone) -> Result<Served, OfferError> {
        let served = Served::new(zone)?;
        if let Some(configured) = self.origin.as_ref().filter(|o| *o != served.origin()) {
            let (offered, configured) = (served.origin().to_string(), configured.to_string());
            return Err(OfferError::Origin { offered, configured });
        }
        Ok(served)
    }

    fn serve(&self, served: Served) {
        let version = served.version();
        self.served.store(Some(Arc::new(served)));
        self.version.send_replace(version);
    }
}

fn this_task_ended(current: &Current, stop: &tokio::task::JoinError) -> StoreError {
    let source = std::io::Error::other(stop.to_string());
    StoreError::Io { path: current.store.path().to_path_buf(), source }
}
