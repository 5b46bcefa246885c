//! A voter that answers every report with what the test wants, and keeps the reports.

use super::World;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use failover::report::{Answer, Echo};
use failover::{Assignment, Epoch, Report};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use wire::ca::Leaf;
use wire::role::Kind;

#[derive(Default)]
pub struct Shown {
    pub assignment: Option<Assignment>,
    pub lease: Option<Epoch>,
    pub reports: Vec<Report>,
    /// How long an answer takes.
    pub slow: Duration,
}

#[derive(Clone)]
pub struct Voter {
    pub shown: Arc<Mutex<Shown>>,
    pub address: SocketAddr,
    pushed: watch::Sender<u64>,
}

impl Voter {
    pub async fn start(world: &World) -> Self {
        let folder = world.folder.path().join("voter");
        std::fs::create_dir_all(&folder).unwrap();
        let files = world.issue(
            &folder,
            &Leaf {
                common_name: "voter-here".into(),
                uri: "baton://test/voter/here".into(),
                addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                names: Vec::new(),
            },
        );
        let identity = Arc::new(wire::tls::Identity::load(&files).unwrap());
        let listener = wire::http::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pushed, _) = watch::channel(0);
        let voter = Self { shown: Arc::default(), address, pushed };
        let router = Router::new()
            .route("/v1/report", post(report))
            .route("/v1/assignment/{instance}", get(assignment))
            .with_state(voter.clone());
        let (keep, shutdown) = watch::channel(false);
        tokio::spawn(async move {
            let served =
                wire::http::serve(listener, identity, &[Kind::Agent], router, shutdown).await;
            drop(keep);
            served
        });
        voter
    }

    pub fn show(&self, assignment: Assignment, lease: Option<Epoch>) {
        {
            let mut shown = self.shown.lock().unwrap();
            shown.assignment = Some(assignment);
            shown.lease = lease;
        }
        self.pushed.send_modify(|count| *count += 1);
    }

    pub fn last(&self) -> Option<Report> {
        self.shown.lock().unwrap().reports.last().cloned()
    }
}

async fn report(State(voter): State<Voter>, Json(report): Json<Report>) -> Json<Answer> {
    let slow = voter.shown.lock().unwrap().slow;
    tokio::time::sleep(slow).await;
    loop {
        {
            let mut shown = voter.shown.lock().unwrap();
            if let Some(assignment) = shown.assignment.clone() {
                let lease = shown.lease.filter(|epoch| *epoch == report.pledge.granted);
                shown.reports.push(report);
                return Json(Answer {
                    assignment,
                    lease,
                    echo: Some(Echo { term: 1, at: shown.reports.len().try_into().unwrap() }),
                    run: 0,
                    sequence: 0,
                    leader: None,
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn assignment(State(voter): State<Voter>) -> Json<Assignment> {
    let mut pushed = voter.pushed.subscribe();
    drop(tokio::time::timeout(Duration::from_secs(20), pushed.changed()).await);
    loop {
        if let Some(assignment) = voter.shown.lock().unwrap().assignment.clone() {
            return Json(assignment);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
