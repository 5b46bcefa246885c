//! Files that do not make an identity are refused with one clear line.

mod place;

use std::fs;

use place::{Place, leaf};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use wire::ca::{Authority, Issued};
use wire::role::{Kind, Peer};
use wire::tls::{Files, Identity, postgres_client};

fn refused(files: &Files, parts: &[&str]) {
    let error = Identity::load(files).err().expect("refused").to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_good_identity_knows_itself() {
    let place = Place::new();
    let identity = place.identity("agent/arezzo-1");
    let expected = Peer { cluster: "clinic-eu".into(), kind: Kind::Agent, name: "arezzo-1".into() };
    assert_eq!(identity.peer(), &expected);
    let days = (identity.not_after().0 - wire::clock::wall().0) / 86_400_000;
    assert!((823..=825).contains(&days), "{days}");
}

#[test]
fn absent_and_garbled_files_are_named() {
    let place = Place::new();
    let good = place.files("voter/arezzo");
    let absent = Files { ca: place.path("no.crt"), ..good.clone() };
    refused(&absent, &["no.crt", "cannot be read"]);
    let garbled = Files { certificate: place.path("x.crt"), ..good.clone() };
    fs::write(&garbled.certificate, "not a certificate").expect("written");
    refused(&garbled, &["x.crt", "holds no certificate"]);
    let garbled = Files { key: good.certificate.clone(), ..good };
    refused(&garbled, &["voter-arezzo.crt", "holds no private key"]);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let place = Place::new();
    let (one, other) = (place.files("voter/arezzo"), place.files("voter/pisa"));
    let mixed = Files { key: other.key, ..one };
    refused(&mixed, &["voter-pisa.key", "does not belong", "voter-arezzo.crt"]);
}

#[test]
fn another_authority_is_refused() {
    let place = Place::new();
    let files = place.files("voter/arezzo");
    let other = Authority::create("clinic-eu").expect("made");
    fs::write(&files.ca, other.certificate_pem()).expect("written");
    refused(&files, &["voter-arezzo.crt", "another authority", "ca.crt"]);
}

#[test]
fn certificates_outside_their_time_are_refused() {
    let place = Place::new();
    let dates = [((2020, 1), (2021, 1), "expired on 2021-01-01"), ((2090, 1), (2091, 1), "2090")];
    for ((from, month), (until, _), text) in dates {
        let key = KeyPair::generate().expect("made");
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(from, month, 1);
        params.not_after = rcgen::date_time_ymd(until, month, 1);
        let uri = "baton://clinic-eu/voter/arezzo".try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        let authority_key = KeyPair::from_pem(&place.authority.key_pem()).expect("a key");
        let authority = Issuer::from_ca_cert_pem(place.authority.certificate_pem(), authority_key)
            .expect("an authority");
        let certificate_pem = params.signed_by(&key, &authority).expect("signed").pem();
        let issued = Issued { certificate_pem, key_pem: key.serialize_pem() };
        refused(&place.write("dated", &issued), &["dated.crt", text, "issue a new one"]);
    }
}

#[test]
fn no_role_is_no_identity_but_may_speak_to_postgresql() {
    let place = Place::new();
    let probe = place.files("probe/probe");
    refused(&probe, &["probe-probe.crt", "carries no role"]);
    postgres_client(&probe).expect("good enough for PostgreSQL");
    let mut two = leaf("clinic-eu", "agent/arezzo-1");
    two.uri = "https://example.org/".into();
    let issued = place.authority.issue(&two).expect("issued");
    refused(&place.write("foreign", &issued), &["carries no role"]);
}

/// PostgreSQL reads the same files with OpenSSL, where it is installed.
#[test]
fn openssl_accepts_certificate_and_key() {
    let place = Place::new();
    let files = place.files("agent/arezzo-1");
    let verify = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .args([&files.ca, &files.certificate])
        .output();
    let Ok(verify) = verify else { return };
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    let key = std::process::Command::new("openssl")
        .args(["pkey", "-noout", "-check", "-in"])
        .arg(&files.key)
        .output()
        .expect("it was there a moment ago");
    assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
}
