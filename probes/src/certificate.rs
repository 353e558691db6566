//! The subject's common name, from the beginning of a DER certificate.
//!
//! The kernel keeps only that beginning, which a certificate parser rightly refuses. This walks the
//! headers (X.690, read by `asn1-rs`) as far as the bytes go: Certificate, TBSCertificate, and in it
//! version, serial number, signature, issuer and validity, then subject (RFC 5280 section 4.1).

use asn1_rs::{FromBer as _, Header, Tag};

/// id-at-commonName, 2.5.4.3, as DER.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The last common name of the subject; `None` if it has none, or it was cut off.
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = open(der, Tag::Sequence)?;
    let (_, mut fields) = open(certificate, Tag::Sequence)?;
    // The version is there unless it is v1.
    if Header::from_ber(fields).ok()?.1.tag() == Tag(0) {
        fields = skip(fields)?;
    }
    for _serial_signature_issuer_validity in 0..4 {
        fields = skip(fields)?;
    }
    let (_, mut names) = open(fields, Tag::Sequence)?;
    let mut found = None;
    while !names.is_empty() {
        let Some((rest, set)) = open(names, Tag::Set) else {
            break;
        };
        if let Some(name) = attribute(set) {
            found = Some(name);
        }
        names = rest;
    }
    found
}

/// The value of an AttributeTypeAndValue that is a common name.
fn attribute(set: &[u8]) -> Option<String> {
    let (_, pair) = open(set, Tag::Sequence)?;
    let (value, oid) = open(pair, Tag::Oid)?;
    if oid != COMMON_NAME {
        return None;
    }
    let (content, header) = Header::from_ber(value).ok()?;
    let text = content.get(..header.length().definite().ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// What follows an element, and its content; both end where the bytes do.
fn open(bytes: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (content, header) = Header::from_ber(bytes).ok()?;
    if header.tag() != tag {
        return None;
    }
    let length = header.length().definite().ok()?;
    match content.split_at_checked(length) {
        Some((inside, rest)) => Some((rest, inside)),
        None => Some((&[], content)),
    }
}

/// What follows an element that must be there whole.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (content, header) = Header::from_ber(bytes).ok()?;
    content.get(header.length().definite().ok()?..)
}
