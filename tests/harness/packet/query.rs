//! DNS queries, from ordinary to malformed (RFC 1035 4.1, RFC 6891 6.1).

/// Record types that tests ask for.
pub mod qtype {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A zone's name servers.
    pub const NS: u16 = 2;
    /// An alias.
    pub const CNAME: u16 = 5;
    /// A zone's start of authority.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// Text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// Port and target of a service.
    pub const SRV: u16 = 33;
    /// Everything.
    pub const ANY: u16 = 255;
}

/// A DNS query. Fields that no test names stay those of an ordinary one.
#[derive(Clone, Debug)]
pub struct Query {
    /// Message ID.
    pub id: u16,
    /// The header's flags; 0x0100 is RD alone, 0x8000 QR.
    pub flags: u16,
    /// The questions; one, in an ordinary query.
    pub questions: Vec<Question>,
    /// The OPT record.
    pub edns: Option<Edns>,
    /// Counts of questions, answers, authorities and additionals, when they
    /// are to contradict the contents.
    pub counts: Option<[u16; 4]>,
    /// Octets behind the message.
    pub trailing: Vec<u8>,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Question {
    /// QNAME in wire form; see [`wire_name`].
    pub name: Vec<u8>,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS; 1 is IN.
    pub qclass: u16,
}

/// An OPT record.
#[derive(Clone, Debug)]
pub struct Edns {
    /// Largest UDP payload that the client takes, in octets.
    pub size: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// EDNS version.
    pub version: u8,
    /// Options: code and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { size: 1232, dnssec_ok: false, version: 0, options: Vec::new() }
    }
}

impl Query {
    /// Asks for `name`, given in presentation form without escapes.
    pub fn new(name: &str, qtype: u16) -> Self {
        Self {
            id: 0x1234,
            flags: 0x0100,
            questions: vec![Question { name: wire_name(name), qtype, qclass: 1 }],
            edns: None,
            counts: None,
            trailing: Vec::new(),
        }
    }

    /// Gives the query another ID.
    #[must_use]
    pub fn with_id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Gives the query an OPT record.
    #[must_use]
    pub fn with_edns(mut self, edns: Edns) -> Self {
        self.edns = Some(edns);
        self
    }

    /// Returns the message.
    pub fn octets(&self) -> Vec<u8> {
        let questions = u16::try_from(self.questions.len()).expect("few questions");
        let counts = self.counts.unwrap_or([questions, 0, 0, self.edns.is_some().into()]);
        let mut octets = Vec::new();
        for word in [self.id, self.flags].into_iter().chain(counts) {
            octets.extend(word.to_be_bytes());
        }
        for question in &self.questions {
            octets.extend(&question.name);
            octets.extend(question.qtype.to_be_bytes());
            octets.extend(question.qclass.to_be_bytes());
        }
        if let Some(edns) = &self.edns {
            octets.extend(edns.octets());
        }
        octets.extend(&self.trailing);
        octets
    }
}

impl Edns {
    /// Root name, type 41, size, extended RCODE, version, flags, RDLENGTH, RDATA.
    fn octets(&self) -> Vec<u8> {
        let length = |octets: &[u8]| u16::try_from(octets.len()).expect("a short option");
        let mut rdata = Vec::new();
        for (code, data) in &self.options {
            rdata.extend(code.to_be_bytes());
            rdata.extend(length(data).to_be_bytes());
            rdata.extend(data);
        }
        let mut octets = vec![0, 0, 41];
        octets.extend(self.size.to_be_bytes());
        octets.extend([0, self.version, u8::from(self.dnssec_ok) << 7, 0]);
        octets.extend(length(&rdata).to_be_bytes());
        octets.extend(rdata);
        octets
    }
}

/// Returns a name given in presentation form, without escapes, in wire form.
pub fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.').filter(|label| !label.is_empty());
    wire_labels(&labels.map(str::as_bytes).collect::<Vec<_>>())
}

/// Returns a name given label by label in wire form; labels may hold any octet.
pub fn wire_labels(labels: &[&[u8]]) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in labels {
        octets.push(u8::try_from(label.len()).expect("a label of at most 255 octets"));
        octets.extend(*label);
    }
    octets.push(0);
    octets
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::Message,
        rr::{Name, RecordType},
    };

    use super::*;

    #[test]
    fn an_ordinary_query_is_what_hickory_reads() {
        let edns = Edns { dnssec_ok: true, options: vec![(10, vec![1; 8])], ..Edns::default() };
        let octets = Query::new("Kubernetes.default.svc.", qtype::AAAA).with_edns(edns).octets();
        let message = Message::from_vec(&octets).unwrap();
        assert_eq!(message.metadata.id, 0x1234);
        assert!(message.metadata.recursion_desired);
        let question = &message.queries[0];
        assert!(question.name.eq_case(&Name::from_ascii("Kubernetes.default.svc.").unwrap()));
        assert_eq!(question.query_type, RecordType::AAAA);
        let edns = message.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
    }

    #[test]
    fn odd_queries_can_be_built() {
        let mut query = Query::new("a.", qtype::A);
        query.questions.push(query.questions[0].clone());
        query.counts = Some([1, 2, 3, 4]);
        query.trailing = vec![0xff];
        let octets = query.octets();
        assert_eq!(octets[4..12], [0, 1, 0, 2, 0, 3, 0, 4]);
        assert_eq!(octets.len(), 12 + 2 * 7 + 1);
        assert_eq!(octets.last(), Some(&0xff));
    }

    #[test]
    fn labels_may_hold_any_octet() {
        assert_eq!(wire_labels(&[b"a.b", b"\0"]), b"\x03a.b\x01\0\0");
        assert_eq!(wire_name("."), b"\0");
    }
}
