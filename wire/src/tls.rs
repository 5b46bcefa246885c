//! Mutual TLS 1.3: who we are, whom we trust, and whom we expect at the other end.
//!
//! Trust has two halves. The authority says that a certificate is of this cluster; the URI in it
//! says what its holder is. A voter that connects to an agent's port must find an agent there, and
//! an agent must not be able to pose as a voter, so both ends check both halves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use failover::time::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock;
use crate::role::{Kind, Peer};
use crate::verifier::KindVerifier;

/// The one implementation of cryptography, given to every configuration by hand: a process-wide
/// default would make the outcome depend on who was initialised first.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Where the PEM files are: the `[tls]` table of every configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Certificate of the authority that everyone's certificate must come from.
    pub ca: PathBuf,
    /// Our certificate (and what stands between it and the authority, if anything).
    pub certificate: PathBuf,
    /// Our private key: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

impl Files {
    /// The same files, relative paths taken from `folder`.
    #[must_use]
    pub fn within(&self, folder: &Path) -> Self {
        Self {
            ca: folder.join(&self.ca),
            certificate: folder.join(&self.certificate),
            key: folder.join(&self.key),
        }
    }
}

/// Why the files do not make an identity: one line, naming the file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct TlsError {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong and what to do.
    pub problem: String,
}

impl TlsError {
    fn new(file: &Path, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), problem: problem.into() }
    }
}

/// Who we are: a certificate with its key, and the authority we trust. Loaded and checked.
pub struct Identity {
    peer: Peer,
    material: Material,
    client_verifier: Arc<dyn ClientCertVerifier>,
    server_verifier: Arc<WebPkiServerVerifier>,
}

impl Identity {
    /// Reads and checks the files: the certificate is of the authority, valid today, belongs to
    /// the key and carries a role.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault.
    pub fn load(files: &Files) -> Result<Self, TlsError> {
        let material = Material::load(files)?;
        let client_verifier = material.client_verifier(files)?;
        let leaf = material.leaf();
        let peer = Peer::of_certificate(leaf).ok_or_else(|| {
            TlsError::new(
                &files.certificate,
                "the certificate carries no role: it needs exactly one URI of the form \
                 baton://CLUSTER/KIND/NAME with the kind voter, agent, dns or operator; issue \
                 one from the cluster's authority",
            )
        })?;
        let server_verifier = material.server_verifier(files)?;
        Ok(Self { peer, material, client_verifier, server_verifier })
    }

    /// Who our own certificate speaks for.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// For a listener: TLS 1.3 only, a client certificate of our authority required, ALPN `h2`
    /// and `http/1.1`. Which kinds of client may pass is for the listener to say.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let mut config = server_builder()
            .with_client_cert_verifier(Arc::clone(&self.client_verifier))
            .with_cert_resolver(self.material.resolver());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// For connections to a server of kind `expected` in our cluster; its certificate must name
    /// the address we dial. ALPN `h2`, so not for PostgreSQL: see [`postgres_client`].
    pub fn client_config(&self, expected: Kind) -> Arc<ClientConfig> {
        self.client_config_named(expected, None)
    }

    /// As [`Identity::client_config`], and the server's certificate must carry `name`, if given.
    pub fn client_config_named(&self, expected: Kind, name: Option<&str>) -> Arc<ClientConfig> {
        let verifier = KindVerifier::new(
            Arc::clone(&self.server_verifier),
            expected,
            self.peer.cluster.clone(),
            name.map(str::to_owned),
        );
        let mut config = client_builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.material.resolver());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// When our certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.material.not_after
    }
}

/// For connections to PostgreSQL: any server certificate of our authority that names the address
/// we dial. Our own certificate needs no role here (the probe writer has none). No ALPN.
///
/// # Errors
/// As [`Identity::load`].
pub fn postgres_client(files: &Files) -> Result<Arc<ClientConfig>, TlsError> {
    let material = Material::load(files)?;
    material.client_verifier(files)?;
    let verifier = material.server_verifier(files)?;
    let config = client_builder()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(material.resolver());
    Ok(Arc::new(config))
}

/// For connections to servers outside the cluster, such as those that page people: TLS 1.2 or 1.3,
/// certificates of the authorities in `ca` or, without it, of the machine's own store. No
/// certificate of ours is shown, no ALPN.
///
/// # Errors
/// The file is at fault, or the machine has no store.
pub fn outside_client(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let builder = client_builder_of(rustls::ALL_VERSIONS);
    let Some(ca) = ca else {
        let verified = builder.with_platform_verifier().map_err(|error| {
            let problem = format!("{error}; install ca-certificates, or name a file with `ca`");
            TlsError::new(Path::new("the machine's store of authorities"), problem)
        })?;
        return Ok(verified.with_no_client_auth());
    };
    let roots = authorities(ca)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// When the first certificate of a file ends, whether or not it is good; `None`: it cannot be read.
pub fn end_of(path: &Path) -> Option<Timestamp> {
    let first = certificates(path).ok()?.into_iter().next()?;
    let (_, certificate) = X509Certificate::from_der(&first).ok()?;
    Some(Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1_000)))
}

fn server_builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(VERSIONS)
        .expect("ring offers suites of TLS 1.3")
}

fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    client_builder_of(VERSIONS)
}

fn client_builder_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .expect("ring offers suites of TLS 1.2 and 1.3")
}

/// What the three files hold.
struct Material {
    roots: Arc<RootCertStore>,
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl Material {
    fn load(files: &Files) -> Result<Self, TlsError> {
        let roots = authorities(&files.ca)?;
        let chain = certificates(&files.certificate)?;
        let not_after = match chain.first() {
            Some(leaf) => check_dates(&files.certificate, leaf, "certificate")?,
            None => Timestamp::default(),
        };
        let key = PROVIDER
            .key_provider
            .load_private_key(private_key(&files.key)?)
            .map_err(|error| TlsError::new(&files.key, format!("unusable private key: {error}")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| {
            let certificate = files.certificate.display();
            let problem = format!(
                "this key does not belong to the certificate {certificate}; \
                 put the two files of one issue side by side"
            );
            TlsError::new(&files.key, problem)
        })?;
        Ok(Self { roots: Arc::new(roots), key: Arc::new(key), not_after })
    }

    fn leaf(&self) -> &CertificateDer<'static> {
        self.key.cert.first().expect("certificates() returns at least one")
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }

    /// Also checks our own certificate as every server will: better here than at the first
    /// connection.
    fn client_verifier(&self, files: &Files) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&PROVIDER),
        )
        .build()
        .map_err(|error| TlsError::new(&files.ca, error.to_string()))?;
        let between = self.key.cert.get(1..).unwrap_or_default();
        verifier.verify_client_cert(self.leaf(), between, UnixTime::now()).map_err(|error| {
            let problem = format!(
                "not acceptable under the authority {}: {}",
                files.ca.display(),
                crate::verifier::explain(&error)
            );
            TlsError::new(&files.certificate, problem)
        })?;
        Ok(verifier)
    }

    fn server_verifier(&self, files: &Files) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&PROVIDER))
            .build()
            .map_err(|error| TlsError::new(&files.ca, error.to_string()))
    }
}

/// The authorities in a file: each one good today.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        check_dates(path, &authority, "authority's certificate")?;
        roots.add(authority).map_err(|error| {
            TlsError::new(path, format!("not an authority's certificate: {error}"))
        })?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::new(path, format!("cannot be read: {error}")))
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::new(path, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::new(path, "holds no certificate (PEM, BEGIN CERTIFICATE)"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        TlsError::new(path, format!("holds no private key (PEM, BEGIN PRIVATE KEY): {error}"))
    })
}

fn check_dates(path: &Path, der: &[u8], what: &str) -> Result<Timestamp, TlsError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| TlsError::new(path, format!("not an X.509 certificate: {error}")))?;
    let validity = certificate.validity();
    let millis = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1_000);
    let (from, until) = (millis(validity.not_before), millis(validity.not_after));
    let now = clock::wall().0;
    if now < from {
        let problem = format!(
            "this {what} is valid from {} on, and the clock of this machine says {}; \
             set the clock or issue a new one",
            date(from),
            date(now)
        );
        return Err(TlsError::new(path, problem));
    }
    if now > until {
        let problem = format!("this {what} expired on {}; issue a new one", date(until));
        return Err(TlsError::new(path, problem));
    }
    Ok(Timestamp(until))
}

fn date(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| format!("{millis} ms"), |time| time.to_string())
}
