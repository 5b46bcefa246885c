//! The built-in certificate authority: one per cluster, made by `baton init`.
//!
//! Keys are ECDSA P-256 and written as PKCS#8, which rustls and PostgreSQL's OpenSSL both take.
//! Every leaf serves both directions of TLS: a voter, an agent and PostgreSQL are clients of one
//! moment and servers of the next.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use x509_parser::pem::parse_x509_pem;

use crate::clock;

const DAY: u64 = 86_400;
const AUTHORITY_DAYS: u64 = 3_652;
const LEAF_DAYS: u64 = 825;
/// Certificates begin this many seconds in the past, for sites whose wall clocks disagree.
const CLOCK_ALLOWANCE: u64 = 3_600;

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A certificate or key could not be read or made.
    #[error("certificate authority: {0}")]
    Certificate(String),
    /// A name was not one that a certificate can carry.
    #[error("`{name}` cannot stand in a certificate: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// A certificate authority: its certificate and its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// What a certificate should say.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// CN of the subject, at most 64 bytes; PostgreSQL matches it with the role.
    pub common_name: String,
    /// `baton://CLUSTER/KIND/NAME`.
    pub uri: String,
    /// IP addresses its daemon is reached at.
    pub addresses: Vec<IpAddr>,
    /// DNS names its daemon is reached at.
    pub names: Vec<String>,
}

/// A new certificate and its key, both PEM; the key as PKCS#8.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The key: to be written with [`crate::files::write_secret`].
    pub key_pem: String,
}

impl Authority {
    /// Makes a new authority for a cluster; valid ten years.
    ///
    /// # Errors
    /// [`CaError::Name`] when the cluster's name cannot stand in a certificate.
    pub fn create(cluster: &str) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&format!("baton authority of {cluster}"))?;
        // Leafs only: a stolen leaf key must not be able to found an authority below ours.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, AUTHORITY_DAYS);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// Reads an authority from PEM.
    ///
    /// # Errors
    /// [`CaError::Certificate`] when either is unreadable, when they do not belong together or
    /// when the certificate is not an authority's.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(|error| CaError::Certificate(format!("the key cannot be read: {error}")))?;
        check_authority(cert_pem, &key)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key)?;
        Ok(Self { issuer, certificate_pem: cert_pem.to_owned() })
    }

    /// The authority's certificate: what every peer trusts.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's key, PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with a new key, for both directions of TLS, valid 825 days.
    ///
    /// # Errors
    /// [`CaError::Name`] for a name that cannot stand in a certificate.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&leaf.common_name)?;
        params.subject_alt_names = alternative_names(leaf)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, LEAF_DAYS);
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate_pem, key_pem: key.serialize_pem() })
    }
}

fn subject(common_name: &str) -> Result<DistinguishedName, CaError> {
    if common_name.is_empty() || common_name.len() > 64 || common_name.contains(char::is_control) {
        return Err(CaError::Name {
            name: common_name.escape_debug().to_string(),
            reason: "a common name has 1 to 64 bytes and no control characters".into(),
        });
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    Ok(subject)
}

fn alternative_names(leaf: &Leaf) -> Result<Vec<SanType>, CaError> {
    let ascii = |name: &str| {
        Ia5String::try_from(name).map_err(|_| CaError::Name {
            name: name.escape_debug().to_string(),
            reason: "only ASCII stands in a URI or a DNS name".into(),
        })
    };
    let mut names = vec![SanType::URI(ascii(&leaf.uri)?)];
    for name in &leaf.names {
        names.push(SanType::DnsName(ascii(name)?));
    }
    names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

fn validity(params: &mut CertificateParams, days: u64) {
    let seconds = u64::try_from(clock::wall().0 / 1_000).unwrap_or(0);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds.saturating_sub(CLOCK_ALLOWANCE));
    params.not_after = epoch + Duration::from_secs(seconds + days * DAY);
}

fn check_authority(cert_pem: &str, key: &KeyPair) -> Result<(), CaError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        CaError::Certificate(format!("the certificate cannot be read: {error}"))
    };
    let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let certificate = pem.parse_x509().map_err(|error| unreadable(&error))?;
    if !certificate.is_ca() {
        return Err(CaError::Certificate("the certificate is not an authority's".into()));
    }
    let theirs: &[u8] = &certificate.public_key().subject_public_key.data;
    if theirs != key.der_bytes() {
        return Err(CaError::Certificate("the key does not belong to the certificate".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_being_written_down() {
        let first = Authority::create("clinic-eu").expect("made");
        let again = Authority::load(first.certificate_pem(), &first.key_pem()).expect("loads");
        assert_eq!(again.certificate_pem(), first.certificate_pem());
        assert_eq!(again.key_pem(), first.key_pem());
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let first = Authority::create("clinic-eu").expect("made");
        let other = Authority::create("clinic-eu").expect("made");
        let error = Authority::load(first.certificate_pem(), &other.key_pem());
        assert!(error.err().expect("refused").to_string().contains("does not belong"));
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let authority = Authority::create("clinic-eu").expect("made");
        let leaf = Leaf {
            common_name: "x".repeat(65),
            uri: "baton://c/agent/a".into(),
            addresses: vec![],
            names: vec![],
        };
        assert!(matches!(authority.issue(&leaf), Err(CaError::Name { .. })));
        let leaf = Leaf { common_name: "a".into(), names: vec!["ä".into()], ..leaf };
        assert!(matches!(authority.issue(&leaf), Err(CaError::Name { .. })));
    }
}
