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
        // More than one attribute in a set: a multi-valued RDN.
        let mut pairs = set;
        while let Some((others, pair)) = open(pairs, Tag::Sequence) {
            if let Some(name) = attribute(pair) {
                found = Some(name);
            }
            pairs = others;
        }
        names = rest;
    }
    found
}

/// The value of an AttributeTypeAndValue that is a common name, whole.
fn attribute(pair: &[u8]) -> Option<String> {
    let (value, oid) = open(pair, Tag::Oid)?;
    if oid != COMMON_NAME {
        return None;
    }
    let (content, header) = Header::from_ber(value).ok()?;
    let bytes = content.get(..header.length().definite().ok()?)?;
    Some(text(header.tag(), bytes))
}

/// A DirectoryString (RFC 5280 section 4.1.2.4). What its type does not allow is replaced.
fn text(tag: Tag, bytes: &[u8]) -> String {
    match tag {
        Tag::BmpString => {
            let units = bytes.chunks_exact(2);
            let units = units.map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units)
                .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        Tag::UniversalString => {
            let units = bytes.chunks_exact(4);
            let units = units.map(|unit| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]));
            units
                .map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        // Read as Latin-1, as OpenSSL and everyone else does, unless somebody put UTF-8 there.
        Tag::T61String => match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().copied().map(char::from).collect(),
        },
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
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
