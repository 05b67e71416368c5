//! The certificate of a client, as a proxy tells it on.
//!
//! A proxy is believed that its client holds the key, which it has seen in the handshake. Who issued the certificate, and whom it
//! stands for, is verified here: its word about names (`By`, `URI`, `Subject`) counts for nothing.

use bartizan_model::ReasonCode;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Where proxies tell it (Envoy; Istio; nginx when it is told to).
pub(crate) const HEADER: &str = "x-forwarded-client-cert";
/// The longest value that is read, in bytes.
const VALUE_MAX: usize = 64 << 10;
/// More certificates than this are in no chain.
const CHAIN_MAX: usize = 8;

/// The certificates that are told, the client's own first; none where there is no such header.
///
/// # Errors
/// `HeaderInvalid` where the header stands twice, tells of several clients, or holds no whole certificate.
pub(crate) fn told(headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, ReasonCode> {
    let mut values = headers.get_all(HEADER).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(Vec::new()),
        (Some(value), None) => value.to_str().map_err(|_| ReasonCode::HeaderInvalid)?,
        (Some(_), Some(_)) => return Err(ReasonCode::HeaderInvalid),
    };
    if value.len() > VALUE_MAX {
        return Err(ReasonCode::HeaderInvalid);
    }
    let members = members(value).ok_or(ReasonCode::HeaderInvalid)?;
    let one = |name: &str| {
        let mut found = members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (found, None) => Ok(found.map(|(_, value)| value.as_str())),
            (_, Some(_)) => Err(ReasonCode::HeaderInvalid),
        }
    };
    // The chain begins with the client's own.
    let pem = match (one("chain")?, one("cert")?) {
        (Some(chain), _) => chain,
        (None, Some(cert)) => cert,
        (None, None) => return Err(ReasonCode::HeaderInvalid),
    };
    of_pem(pem)
}

/// The certificates of a PEM text with escapes.
///
/// # Errors
/// `HeaderInvalid` where it holds none, or something else.
pub(crate) fn of_pem(escaped: &str) -> Result<Vec<CertificateDer<'static>>, ReasonCode> {
    let pem = percent_decode_str(escaped).collect::<Vec<u8>>();
    let read = CertificateDer::pem_slice_iter(&pem).take(CHAIN_MAX + 1).collect::<Result<Vec<_>, _>>();
    let chain = read.map_err(|_| ReasonCode::HeaderInvalid)?;
    if chain.is_empty() || chain.len() > CHAIN_MAX { Err(ReasonCode::HeaderInvalid) } else { Ok(chain) }
}

/// `Key=value;Key="quoted value"` of one client. None for several (`,`) and for what is not written so: which of several is the
/// nearest depends on the configuration of every proxy in between.
fn members(value: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut characters = value.chars().peekable();
    loop {
        let mut key = String::new();
        loop {
            match characters.next()? {
                '=' => break,
                c if c.is_ascii_alphanumeric() => key.push(c),
                _ => return None,
            }
        }
        let mut text = String::new();
        if characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => text.push(characters.next()?),
                    c => text.push(c),
                }
            }
        } else {
            while let Some(c) = characters.next_if(|c| !matches!(c, ';' | ',' | '"')) {
                text.push(c);
            }
        }
        out.push((key, text));
        match characters.next() {
            None => return Some(out),
            Some(';') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A";
    const OTHER: &str = "-----BEGIN%20CERTIFICATE-----%0ABAUG%0A-----END%20CERTIFICATE-----%0A";

    fn read(values: &[&str]) -> Result<Vec<Vec<u8>>, ReasonCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        told(&headers).map(|chain| chain.iter().map(|der| der.to_vec()).collect())
    }

    #[test]
    fn a_certificate_is_read_from_what_proxies_write() {
        let own = vec![vec![1, 2, 3]];
        assert_eq!(read(&[]), Ok(Vec::new()));
        assert_eq!(
            read(&[&format!(
                "By=spiffe://a/b;Hash=00;Cert=\"{PEM}\";Subject=\"CN=a,O=\\\"b;c\\\"\";URI=spiffe://a/c"
            )]),
            Ok(own.clone())
        );
        assert_eq!(read(&[&format!("Cert={PEM}")]), Ok(own));
        let both = format!("Cert=\"{PEM}\";Chain=\"{PEM}{OTHER}\"");
        assert_eq!(read(&[&both]), Ok(vec![vec![1, 2, 3], vec![4, 5, 6]]));
    }

    #[test]
    fn names_without_a_certificate_several_clients_and_broken_headers_are_refused() {
        let spoofed = format!("URI=spiffe://house/root,Cert=\"{PEM}\"");
        let twice = format!("Cert=\"{PEM}\";Cert=\"{OTHER}\"");
        let many = format!("Chain=\"{}\"", PEM.repeat(CHAIN_MAX + 1));
        for bad in [
            "Hash=00;URI=spiffe://house/root",
            "",
            "Cert",
            "Cert=\"",
            "Cert=\"x\"y",
            "Cert=x",
            ";",
            &format!("Cert=\"{PEM}\";"),
            &format!("Cert=\"{PEM}\",Cert=\"{OTHER}\""),
            &spoofed,
            &twice,
            &many,
        ] {
            assert_eq!(read(&[bad]), Err(ReasonCode::HeaderInvalid), "{bad}");
        }
        assert!(read(&[&format!("Cert=\"{PEM}\""), &format!("Cert=\"{OTHER}\"")]).is_err());
        assert!(read(&[&"x".repeat(VALUE_MAX + 1)]).is_err());
    }
}
