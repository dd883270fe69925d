//! The field names that have a meaning here.
//!
//! A request compares each of its names with these once, when it is parsed. Every later look-up
//! compares members of this set, which is many times faster than text in any case (RFC 9110 section
//! 5.1: field names are case-insensitive).

use crate::labelled::labelled;

labelled! {
    /// A field name that has a meaning here; its label is in lower case.
    #[allow(missing_docs, reason = "the label says what each is")]
    FieldName {
        Accept "accept",
        Authorization "authorization",
        Connection "connection",
        ContentLength "content-length",
        ContentLocation "content-location",
        ContentType "content-type",
        Date "date",
        EchoClose "echo-close",
        EchoDelay "echo-delay",
        EchoFault "echo-fault",
        EchoStatus "echo-status",
        Expect "expect",
        Forwarded "forwarded",
        From "from",
        Host "host",
        IfModifiedSince "if-modified-since",
        IfUnmodifiedSince "if-unmodified-since",
        KeepAlive "keep-alive",
        MaxForwards "max-forwards",
        ProxyAuthenticate "proxy-authenticate",
        ProxyAuthorization "proxy-authorization",
        ProxyConnection "proxy-connection",
        Referer "referer",
        SecWebSocketKey "sec-websocket-key",
        SecWebSocketVersion "sec-websocket-version",
        Te "te",
        Traceparent "traceparent",
        Trailer "trailer",
        TransferEncoding "transfer-encoding",
        Upgrade "upgrade",
        UserAgent "user-agent",
        Via "via",
        XForwardedFor "x-forwarded-for",
        XForwardedHost "x-forwarded-host",
        XForwardedProto "x-forwarded-proto",
        XRequestId "x-request-id",
    }
}

/// A set of field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldNames(u64);

const _: () = assert!(FieldName::ALL.len() <= u64::BITS as usize);

impl FieldNames {
    /// The set of these names.
    pub const fn of(mut names: &[FieldName]) -> FieldNames {
        let mut bits = 0;
        while let [first, rest @ ..] = names {
            bits |= 1 << *first as u64;
            names = rest;
        }
        FieldNames(bits)
    }

    /// Adds a name; whether it was in the set before.
    pub fn insert(&mut self, name: FieldName) -> bool {
        let before = self.contains(name);
        self.0 |= 1 << name as u64;
        before
    }

    /// Whether a name is in the set.
    pub fn contains(self, name: FieldName) -> bool {
        self.0 & (1 << name as u64) != 0
    }

    /// The names that are in both sets.
    pub fn and(self, other: FieldNames) -> FieldNames {
        FieldNames(self.0 & other.0)
    }

    /// Whether some name is in both sets.
    pub fn intersects(self, other: FieldNames) -> bool {
        self.0 & other.0 != 0
    }

    /// The first name of the set, in alphabetical order.
    pub fn first(self) -> Option<FieldName> {
        FieldName::ALL
            .get(self.0.trailing_zeros() as usize)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let mut set = FieldNames::default();
        assert_eq!(set.first(), None);
        assert!(!set.insert(FieldName::Via) && !set.insert(FieldName::Te));
        assert!(set.insert(FieldName::Via));
        assert_eq!(set, FieldNames::of(&[FieldName::Te, FieldName::Via]));
        assert_eq!(set.first(), Some(FieldName::Te));
        let via = set.and(FieldNames::of(&[FieldName::Via, FieldName::Host]));
        assert_eq!(via, FieldNames::of(&[FieldName::Via]));
        assert!(set.intersects(via) && !set.intersects(FieldNames::default()));
    }

    #[test]
    fn labels_are_in_lower_case_and_sorted() {
        let labels: Vec<&str> = FieldName::ALL.iter().map(|name| name.label()).collect();
        assert!(labels.is_sorted());
        assert!(labels.iter().all(|label| label.to_lowercase() == *label));
    }
}
