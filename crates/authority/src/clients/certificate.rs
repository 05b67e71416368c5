//! The certificate of a connection, as far as clients are known by it.

use bartizan_jose::X5t;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::TlsName;

/// The certificate of the connection: one that the listener has verified, issued by an authority that it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of its DER.
    pub thumbprint: X5t,
    subject: Option<String>,
    dns: Vec<String>,
    uris: Vec<String>,
}

impl PeerCertificate {
    /// Reads what a verified certificate names; none for one that cannot be read.
    #[must_use]
    pub fn read(thumbprint: X5t, der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Some(Self { thumbprint, subject: subject(&certificate), dns, uris })
    }

    /// Whether it names what a client is known by.
    pub(super) fn names(&self, name: &TlsName) -> bool {
        match name {
            TlsName::Subject(subject) => self.subject.as_ref() == Some(subject),
            TlsName::Dns(name) => self.dns.contains(name),
            TlsName::Uri(uri) => self.uris.contains(uri),
        }
    }
}

/// The subject as RFC 4514 writes it: the last part first. None where a part has a type or letters that this does not write.
fn subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in certificate.subject().iter() {
        let mut attributes = part.iter();
        let (attribute, None) = (attributes.next()?, attributes.next()) else { return None };
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "0.9.2342.19200300.100.1.25" => "DC",
            "0.9.2342.19200300.100.1.1" => "UID",
            _ => return None,
        };
        let value = attribute.as_str().ok()?;
        let plain = !value.is_empty()
            && value.trim() == value
            && !value.starts_with('#')
            && !value.contains(|c: char| {
                c.is_control() || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=')
            });
        if !plain {
            return None;
        }
        parts.push(format!("{kind}={value}"));
    }
    parts.reverse();
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Digest;

    fn certificate(set: impl FnOnce(&mut rcgen::CertificateParams)) -> PeerCertificate {
        let mut params = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
        let uri = "spiffe://house.example/app".to_owned().try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        set(&mut params);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let thumbprint = X5t::from_digest(Digest::of(made.der()));
        PeerCertificate::read(thumbprint, made.der()).unwrap()
    }

    #[test]
    fn attack_33_a_client_is_known_by_a_name_to_the_letter_and_of_the_right_kind() {
        let shown = certificate(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "House");
            params.distinguished_name.push(rcgen::DnType::CommonName, "app");
        });
        let dns = |name: &str| shown.names(&TlsName::Dns(name.to_owned()));
        let uri = |name: &str| shown.names(&TlsName::Uri(name.to_owned()));
        let subject = |name: &str| shown.names(&TlsName::Subject(name.to_owned()));
        assert!(dns("app.example") && uri("spiffe://house.example/app") && subject("CN=app,O=House"));
        for other in ["example", "x.app.example", "spiffe://house.example/app", "app", ""] {
            assert!(!dns(other), "{other}");
        }
        for other in ["spiffe://house.example/app2", "spiffe://other.example/app", "app.example"] {
            assert!(!uri(other), "{other}");
        }
        for other in ["CN=app", "O=House,CN=app", "CN=app,O=House,C=XX", "app.example"] {
            assert!(!subject(other), "{other}");
        }
    }

    #[test]
    fn attack_33_a_subject_that_could_be_read_two_ways_is_none() {
        for name in ["app,O=House", "a+b", "a=b", "#app", " app", "app\\"] {
            let shown = certificate(|params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
            });
            assert_eq!(shown.subject, None, "{name}");
        }
    }
}
