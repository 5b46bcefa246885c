//! One message in, its answer or answers out: what RFC 1035, 6891, 7766 and 9619 say about the
//! envelope. What the answer is, [`mod@crate::answer`] knows; what carries it, [`crate::serve`].

use crate::answer::{Answer, Question, answer};
use crate::current::Current;
use crate::tally::Tally;
use crate::transfer;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::net::SocketAddr;
use std::sync::Arc;

/// The largest datagram that is sent and asked for: what passes every path unfragmented (DNS flag
/// day 2020).
pub const PAYLOAD: u16 = 1232;
/// The largest answer to an asker without EDNS (RFC 1035, section 4.2.1).
const PLAIN: u16 = 512;
const HEADER: usize = 12;

/// What a message deserves at first sight.
#[derive(Debug)]
pub enum Sighted {
    /// No answer: too short for a header, or itself an answer (answering those makes loops).
    Nothing,
    /// A header alone, shorter than what was asked.
    Error([u8; HEADER]),
    /// A question.
    Question(Box<Request>),
}

/// Reads a message. Total over all bytes: what cannot be a question is told before the decoder
/// makes room for as many of them as the header claims.
pub fn sight(message: Vec<u8>, from: SocketAddr, protocol: Protocol) -> Sighted {
    let Some(header) = message.first_chunk::<HEADER>().copied() else { return Sighted::Nothing };
    let [_, _, flags, _, questions @ ..] = header;
    if flags & 0x80 != 0 {
        return Sighted::Nothing;
    }
    if OpCode::from_u8((flags >> 3) & 0x0f) != OpCode::Query {
        return Sighted::Error(error(header, ResponseCode::NotImp));
    }
    // Not one question (RFC 9619), or one of no whole name: FORMERR.
    let name = message.get(HEADER..).unwrap_or_default();
    if !questions.starts_with(&[0, 1]) || !is_whole(name) {
        return Sighted::Error(error(header, ResponseCode::FormErr));
    }
    match Request::from_bytes(message, from, protocol) {
        Ok(request) => Sighted::Question(Box::new(request)),
        Err(_) => Sighted::Error(error(header, ResponseCode::FormErr)),
    }
}

/// Whether a name stands here without compression. The first name of a message has no earlier one
/// to point to (RFC 1035, section 4.1.4): what points into the header is no name, and says another
/// thing in the answer, whose header is another and which repeats the question as it came.
fn is_whole(mut name: &[u8]) -> bool {
    while let [length, rest @ ..] = name {
        match length {
            0 => return true,
            1..64 => name = rest.get(usize::from(*length)..).unwrap_or_default(),
            64.. => return false,
        }
    }
    false
}

/// The header of the message, turned into an answer of nothing but a result.
fn error([high, low, flags, ..]: [u8; HEADER], code: ResponseCode) -> [u8; HEADER] {
    // Operation and "recursion desired" are repeated, "response" is set, every count is zero.
    [high, low, 0x80 | (flags & 0x79), code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Answers every question from the zone that is served when it comes.
#[derive(Debug)]
pub struct Responder {
    current: Arc<Current>,
    tally: Arc<Tally>,
}

impl Responder {
    /// A responder for what `current` serves.
    pub fn new(current: Arc<Current>) -> Self {
        Self::counting(current, Arc::default())
    }

    /// The same; every answer is counted in `tally`.
    pub fn counting(current: Arc<Current>, tally: Arc<Tally>) -> Self {
        Self { current, tally }
    }

    /// What it counts.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn respond<R: ResponseHandler>(&self, request: &Request, reply: R) -> ResponseInfo {
        let envelope = Envelope::of(request);
        let Ok(info) = request.request_info() else {
            return envelope.send(&Answer::of(ResponseCode::FormErr), reply).await;
        };
        if request.version() > 0 {
            return envelope.send(&Answer::of(ResponseCode::BADVERS), reply).await;
        }
        let query = info.query.original();
        let Some(served) = self.current.served() else {
            let foreign = self.current.is_foreign(info.query.name());
            let code = if foreign { ResponseCode::Refused } else { ResponseCode::ServFail };
            return envelope.send(&Answer::of(code), reply).await;
        };
        if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return transfer::transfer(&served, &info, &envelope, reply).await;
        }
        let question = Question {
            name: query.name(),
            kind: query.query_type(),
            class: query.query_class(),
            turn: info.metadata.id,
        };
        envelope.send(&answer(&served, &question), reply).await
    }
}

#[async_trait::async_trait]
impl RequestHandler for Responder {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        reply: R,
    ) -> ResponseInfo {
        let info = self.respond(request, reply).await;
        self.tally.answered(request.protocol(), info.response_code);
        info
    }
}

/// What stays the same over all messages that answer one request.
pub struct Envelope<'r> {
    request: &'r Request,
    edns: Option<Edns>,
    limit: u16,
}

impl<'r> Envelope<'r> {
    fn of(request: &'r Request) -> Self {
        // An answer has an OPT record exactly when the question has one (RFC 6891, section 7); its
        // DO bit repeats the question's (RFC 3225, section 3).
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let datagram = request.protocol() == Protocol::Udp;
        let limit = if datagram { request.max_payload().clamp(PLAIN, PAYLOAD) } else { u16::MAX };
        Self { request, edns, limit }
    }

    /// The request.
    pub fn request(&self) -> &'r Request {
        self.request
    }

    /// Sends one message that answers with `records`; it has to fit.
    pub async fn stream<R: ResponseHandler>(
        &self,
        records: &[&Record],
        reply: &mut R,
    ) -> Option<ResponseInfo> {
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.authoritative = true;
        let builder = MessageResponseBuilder::new(&self.request.queries, self.edns.as_ref());
        let message = builder.build(metadata, records.iter().copied(), [], [], []);
        reply.send_response(message).await.ok()
    }

    /// Sends an answer, as much of it as may be sent: first it loses the additional section, which
    /// nobody misses, then everything, with TC to say so (RFC 2181, section 9), but never the OPT
    /// record.
    pub async fn send<R: ResponseHandler>(
        &self,
        answer: &Answer<'_>,
        mut reply: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.authoritative = answer.authoritative;
        metadata.response_code = answer.code;
        let mut answers = answer.answers.as_slice();
        let mut authorities = answer.authorities.as_slice();
        let mut additionals = answer.additionals.as_slice();
        if !self.fits(metadata, answers, authorities, additionals) {
            additionals = &[];
        }
        if !self.fits(metadata, answers, authorities, additionals) {
            (answers, authorities) = (&[], &[]);
            metadata.truncation = true;
        }
        let builder = MessageResponseBuilder::new(&self.request.queries, self.edns.as_ref());
        let additionals = additionals.iter().copied();
        let authorities = authorities.iter().copied();
        let message = builder.build(metadata, answers, authorities, [], additionals);
        reply.send_response(message).await.unwrap_or_else(|_| unsent(metadata))
    }

    fn fits(
        &self,
        metadata: Metadata,
        answers: &[Record],
        authorities: &[&Record],
        additionals: &[&Record],
    ) -> bool {
        if self.limit == u16::MAX {
            return true;
        }
        let mut bytes = Vec::with_capacity(usize::from(self.limit));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit);
        let additionals = additionals.iter().copied();
        let authorities = authorities.iter().copied();
        MessageResponseBuilder::new(&self.request.queries, self.edns.as_ref())
            .build(metadata, answers, authorities, [], additionals)
            .destructive_emit(&mut encoder)
            .is_ok_and(|info| !info.truncation)
    }
}

/// What is told of an answer that could not be sent: the asker is gone.
pub fn unsent(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 4000))
    }

    fn code(sighted: &Sighted) -> Option<u8> {
        match sighted {
            Sighted::Error(header) => header.get(3).copied(),
            Sighted::Nothing | Sighted::Question(_) => None,
        }
    }

    #[test]
    fn short_messages_and_answers_get_nothing() {
        for length in 0..HEADER {
            let message = vec![0; length];
            assert!(matches!(sight(message, from(), Protocol::Udp), Sighted::Nothing));
        }
        let mut answer = vec![0; HEADER];
        answer[2] = 0x80;
        assert!(matches!(sight(answer, from(), Protocol::Udp), Sighted::Nothing));
    }

    #[test]
    fn other_operations_and_counts_get_a_header() {
        for operation in 1..16_u8 {
            let mut message = vec![0; HEADER];
            message[2] = operation << 3;
            assert_eq!(code(&sight(message, from(), Protocol::Udp)), Some(4), "{operation}");
        }
        for count in [0_u16, 2, 65_535] {
            let mut message = vec![0; HEADER];
            message[4..6].copy_from_slice(&count.to_be_bytes());
            assert_eq!(code(&sight(message, from(), Protocol::Udp)), Some(1), "{count}");
        }
    }

    fn asked(name: &[u8]) -> Sighted {
        let mut message = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name);
        message.extend([0, 1, 0, 1]);
        sight(message, from(), Protocol::Tcp)
    }

    #[test]
    fn a_question_names_its_name_in_full() {
        assert!(matches!(asked(b"\x02db\x07example\0"), Sighted::Question(_)));
        assert!(matches!(asked(b"\0"), Sighted::Question(_)));
        // A pointer to a zero in the header: the root now, and something else in the answer.
        for name in [&b"\xc0\x02"[..], b"\x02db\xc0\x02", b"\x02db\xc0\x0c", b"\x40", b"\x3fdb"] {
            assert_eq!(code(&asked(name)), Some(1), "{name:?}");
        }
    }
}
