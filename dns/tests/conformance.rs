//! What a stranger sees, by section of the RFCs: through real sockets, with hickory's codec only
//! to build questions and read answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use dns::serve::Limits;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use std::time::Duration;
use support::{
    ORIGIN, Running, lines, parse, question, read, serving, until, with_edns, write, zone,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn soa_in_authority(message: &Message) -> bool {
    message
        .authorities
        .iter()
        .any(|record| record.ttl == 5 && matches!(&record.data, RData::SOA(soa) if soa.serial == 7))
}

#[tokio::test]
async fn rfc1035_4_1_1_the_header_answers_the_question() {
    let (_data, server) = serving(zone(7)).await;
    let mut asked = question("clinic", RecordType::A);
    asked.metadata.recursion_desired = true;
    asked.metadata.checking_disabled = true;
    let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
    assert!(answer.metadata.checking_disabled && !answer.metadata.recursion_available);
    assert!(!answer.metadata.truncation && !answer.metadata.authentic_data);
    assert_eq!(answer.queries, asked.queries);
    assert_eq!(lines(&answer.answers), ["clinic.db.clinic.example. 5 IN A 127.0.1.1"]);
    assert!(answer.authorities.is_empty() && answer.additionals.is_empty());
}

#[tokio::test]
async fn rfc1035_3_3_every_type_of_the_zone() {
    let (_data, server) = serving(zone(7)).await;
    let expected = [
        ("six", RecordType::AAAA, "six.db.clinic.example. 5 IN AAAA 2001:db8::6"),
        ("clinic", RecordType::TXT, "clinic.db.clinic.example. 5 IN TXT service=clinic epoch=1"),
        (
            "_postgresql._tcp.clinic",
            RecordType::SRV,
            "_postgresql._tcp.clinic.db.clinic.example. 5 IN SRV 0 0 5432 \
             clinic.db.clinic.example.",
        ),
        (
            ORIGIN,
            RecordType::SOA,
            "db.clinic.example. 5 IN SOA ns1.db.clinic.example. hostmaster.clinic.example. 7 30 5 \
             1209600 5",
        ),
    ];
    for (name, kind, line) in expected {
        let answer = server.ask(name, kind).await;
        assert!(answer.metadata.authoritative, "{name}");
        assert_eq!(lines(&answer.answers), [line]);
    }
}

#[tokio::test]
async fn rfc2782_the_additional_section_has_the_target_of_srv() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("_postgresql._tcp.clinic", RecordType::SRV).await;
    assert_eq!(lines(&answer.additionals), ["clinic.db.clinic.example. 5 IN A 127.0.1.1"]);
}

#[tokio::test]
async fn rfc1034_4_2_1_name_servers_come_with_their_addresses() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask(ORIGIN, RecordType::NS).await;
    assert_eq!(
        lines(&answer.answers),
        [
            "db.clinic.example. 5 IN NS ns1.db.clinic.example.",
            "db.clinic.example. 5 IN NS ns2.db.clinic.example."
        ]
    );
    assert_eq!(
        lines(&answer.additionals),
        [
            "ns1.db.clinic.example. 5 IN A 127.0.1.1",
            "ns1.db.clinic.example. 5 IN AAAA 2001:db8::1",
            "ns2.db.clinic.example. 5 IN A 127.0.2.1"
        ]
    );
}

#[tokio::test]
async fn rfc1034_3_6_2_aliases_are_followed_inside_the_zone() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("old-patients", RecordType::A).await;
    let chain: Vec<_> = answer.answers.iter().map(ToString::to_string).collect();
    assert_eq!(
        chain,
        [
            "old-patients.db.clinic.example. 5 IN CNAME patients.db.clinic.example.",
            "patients.db.clinic.example. 5 IN CNAME clinic.db.clinic.example.",
            "clinic.db.clinic.example. 5 IN A 127.0.1.1"
        ]
    );
    let answer = server.ask("old-patients", RecordType::CNAME).await;
    assert_eq!(answer.answers.len(), 1, "asked for itself, an alias is not followed");
    let answer = server.ask("patients", RecordType::AAAA).await;
    assert_eq!(answer.answers.len(), 1);
    assert!(soa_in_authority(&answer), "no such record at the end of the chain");
}

#[tokio::test]
async fn rfc6604_2_1_the_result_is_that_of_the_last_name_of_a_chain() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("dangling", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.answers.len(), 1);
    assert!(soa_in_authority(&answer));
}

#[tokio::test]
async fn rfc1034_3_6_2_a_loop_of_aliases_ends() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("loop-a", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn rfc2308_2_no_such_name_and_no_such_record_differ() {
    let (_data, server) = serving(zone(7)).await;
    for (name, kind, code) in [
        ("nowhere", RecordType::A, ResponseCode::NXDomain),
        ("deep.down.nowhere", RecordType::TXT, ResponseCode::NXDomain),
        ("below.clinic", RecordType::A, ResponseCode::NXDomain),
        ("clinic", RecordType::AAAA, ResponseCode::NoError),
        ("clinic", RecordType::MX, ResponseCode::NoError),
        ("clinic", RecordType::DS, ResponseCode::NoError),
        ("clinic", RecordType::Unknown(65_280), ResponseCode::NoError),
        (ORIGIN, RecordType::A, ResponseCode::NoError),
    ] {
        let answer = server.ask(name, kind).await;
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert!(answer.answers.is_empty() && answer.metadata.authoritative, "{name} {kind}");
        assert!(soa_in_authority(&answer), "{name} {kind}");
    }
}

#[tokio::test]
async fn rfc8020_2_a_name_above_another_exists() {
    let (_data, server) = serving(zone(7)).await;
    for kind in [RecordType::A, RecordType::SRV, RecordType::ANY] {
        let answer = server.ask("_tcp.clinic", kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{kind}");
        assert!(answer.answers.is_empty() && soa_in_authority(&answer), "{kind}");
    }
    let answer = server.ask("_udp.clinic", RecordType::SRV).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn rfc8482_4_1_any_gets_one_set_of_records() {
    let (_data, server) = serving(zone(7)).await;
    for (name, records) in [("clinic", 1), ("clinic-ro", 2), ("patients", 1), (ORIGIN, 1)] {
        let answer = server.ask(name, RecordType::ANY).await;
        assert_eq!(answer.answers.len(), records, "{name}");
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
}

#[tokio::test]
async fn rfc4343_3_case_is_ignored_and_preserved() {
    let (_data, server) = serving(zone(7)).await;
    let asked = question("cLiNiC.dB.cLiNiC.eXaMpLe.", RecordType::A);
    let answer = server.datagram(&asked.to_vec().unwrap()).await;
    assert!(answer.windows(7).any(|bytes| bytes == b"\x06cLiNiC"));
    let answer = parse(&answer);
    assert_eq!(answer.queries[0].name().to_string(), "cLiNiC.dB.cLiNiC.eXaMpLe.");
    assert_eq!(answer.answers[0].name.to_string(), "cLiNiC.dB.cLiNiC.eXaMpLe.");
}

#[tokio::test]
async fn rfc1794_the_first_of_several_addresses_takes_turns() {
    let (_data, server) = serving(zone(7)).await;
    let mut first = std::collections::BTreeSet::new();
    for id in 0..4 {
        let mut asked = question("clinic-ro", RecordType::A);
        asked.metadata.id = id;
        let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
        assert_eq!(answer.answers.len(), 2);
        first.insert(answer.answers[0].to_string());
    }
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn rfc1035_4_1_1_what_is_not_ours_is_refused() {
    let (_data, server) = serving(zone(7)).await;
    for name in ["example.", "clinic.example.", ".", "xdb.clinic.example.", "example.com."] {
        let answer = server.ask(name, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!answer.metadata.authoritative && answer.authorities.is_empty(), "{name}");
    }
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY] {
        let mut asked = question("clinic", RecordType::A);
        asked.queries[0].set_query_class(class);
        let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{class}");
    }
}

#[tokio::test]
async fn rfc1035_4_1_1_other_operations_are_not_implemented() {
    let (_data, server) = serving(zone(7)).await;
    for operation in [1, 2, 3, 4, 5, 6, 15] {
        let mut asked = question("clinic", RecordType::A);
        asked.metadata.op_code = OpCode::from_u8(operation);
        let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
        assert_eq!(answer.metadata.response_code, ResponseCode::NotImp, "{operation}");
        assert_eq!(answer.metadata.op_code, OpCode::from_u8(operation));
        assert_eq!(answer.metadata.id, 0x1234);
    }
}

#[tokio::test]
async fn rfc9619_4_exactly_one_question() {
    let (_data, server) = serving(zone(7)).await;
    let mut none = question("clinic", RecordType::A);
    none.queries.clear();
    let mut two = question("clinic", RecordType::A);
    two.add_query(two.queries[0].clone());
    for asked in [none, two] {
        let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
}

#[tokio::test]
async fn rfc6891_6_1_1_an_opt_record_for_an_opt_record() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("clinic", RecordType::A).await;
    assert!(answer.edns.is_none());
    for name in ["clinic", "nowhere", "example.com."] {
        let answer = server.datagram(&with_edns(question(name, RecordType::A), 4096)).await;
        let edns = parse(&answer).edns.expect("an OPT record");
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232), "{name}");
        assert!(!edns.flags().dnssec_ok, "{name}");
    }
}

#[tokio::test]
async fn rfc6891_6_1_1_two_opt_records_are_an_error() {
    let (_data, server) = serving(zone(7)).await;
    let mut asked = with_edns(question("clinic", RecordType::A), 1232);
    let opt = asked[asked.len() - 11..].to_vec();
    asked.extend(opt);
    asked[11] = 2;
    let answer = parse(&server.datagram(&asked).await);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn rfc6891_6_1_3_another_version_is_told_ours() {
    let (_data, server) = serving(zone(7)).await;
    let mut asked = question("clinic", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    asked.set_edns(edns);
    let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS");
    assert_eq!(answer.edns.expect("an OPT record").version(), 0);
    assert!(answer.answers.is_empty());
}

#[tokio::test]
async fn rfc3225_3_the_do_bit_is_repeated() {
    let (_data, server) = serving(zone(7)).await;
    let mut asked = question("clinic", RecordType::A);
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    asked.set_edns(edns);
    let answer = parse(&server.datagram(&asked.to_vec().unwrap()).await);
    assert!(answer.edns.expect("an OPT record").flags().dnssec_ok);
}

#[tokio::test]
async fn rfc1035_4_2_1_rfc2181_9_what_does_not_fit_is_truncated() {
    let (_data, server) = serving(zone(7)).await;
    // 60 addresses: more than 512 bytes, less than 1232. 100: more than that too.
    let plain = question("many", RecordType::A).to_vec().unwrap();
    let answer = server.datagram(&plain).await;
    assert!(answer.len() <= 512);
    assert!(parse(&answer).metadata.truncation && parse(&answer).answers.is_empty());

    let answer = server.datagram(&with_edns(question("many", RecordType::A), 1232)).await;
    assert!(!parse(&answer).metadata.truncation);
    assert_eq!(parse(&answer).answers.len(), 60);

    // Too small a payload counts as 512 (RFC 6891, section 6.2.3).
    let answer = server.datagram(&with_edns(question("many", RecordType::A), 100)).await;
    assert!(parse(&answer).metadata.truncation && parse(&answer).edns.is_some());

    let crowd = with_edns(question("crowd", RecordType::A), 65_535);
    let answer = server.datagram(&crowd).await;
    assert!(answer.len() <= 1232);
    assert!(parse(&answer).metadata.truncation && parse(&answer).edns.is_some());

    let answer = parse(&server.stream(&crowd).await);
    assert!(!answer.metadata.truncation, "over TCP it fits");
    assert_eq!(answer.answers.len(), 100);
}

#[tokio::test]
async fn rfc2181_9_the_additional_section_is_left_out_before_anything_is_truncated() {
    let (_data, server) = serving(zone(7)).await;
    let answer = server.ask("_sip._tcp.many", RecordType::SRV).await;
    assert!(!answer.metadata.truncation && answer.additionals.is_empty());
    assert_eq!(answer.answers.len(), 1);
    let asked = question("_sip._tcp.many", RecordType::SRV).to_vec().unwrap();
    assert_eq!(parse(&server.stream(&asked).await).additionals.len(), 60);
}

#[tokio::test]
async fn rfc7766_6_2_1_many_questions_over_one_connection() {
    let (_data, server) = serving(zone(7)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for id in 0..100 {
        let mut asked = question("clinic", RecordType::A);
        asked.metadata.id = id;
        write(&mut stream, &asked.to_vec().unwrap()).await;
    }
    for id in 0..100 {
        assert_eq!(parse(&read(&mut stream).await.unwrap()).metadata.id, id);
    }
}

#[tokio::test]
async fn rfc7766_8_a_message_in_single_bytes_is_a_message() {
    let (_data, server) = serving(zone(7)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let asked = question("clinic", RecordType::A).to_vec().unwrap();
    for byte in [&u16::try_from(asked.len()).unwrap().to_be_bytes(), asked.as_slice()].concat() {
        stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(parse(&read(&mut stream).await.unwrap()).answers.len(), 1);
}

#[tokio::test]
async fn rfc7766_6_2_3_silent_and_too_many_connections_are_closed() {
    let data = tempfile::tempdir().unwrap();
    let idle = Duration::from_millis(300);
    let limits = Limits { connections_each: 3, idle, ..Limits::default() };
    let server = Running::start_at("127.0.0.1:0", data.path(), vec![], None, limits).await;
    server.current.offer(zone(7)).await.unwrap();
    let asked = question("clinic", RecordType::A).to_vec().unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        write(&mut stream, &asked).await;
        assert!(read(&mut stream).await.is_some());
        open.push(stream);
    }
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read(&mut refused).await, None, "one too many");
    for mut stream in open {
        assert_eq!(read(&mut stream).await, None, "silent for too long");
    }
    until("a place is free again", || async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may close before it reads.
        let length = u16::try_from(asked.len()).unwrap().to_be_bytes();
        let sent = stream.write_all(&[&length, asked.as_slice()].concat()).await;
        sent.is_ok() && read(&mut stream).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn rfc4291_2_5_3_it_answers_over_ipv6() {
    let data = tempfile::tempdir().unwrap();
    if tokio::net::UdpSocket::bind("[::1]:0").await.is_err() {
        return;
    }
    let server = Running::start_at("[::1]:0", data.path(), vec![], None, Limits::default()).await;
    server.current.offer(zone(7)).await.unwrap();
    assert_eq!(server.ask("clinic", RecordType::A).await.answers.len(), 1);
    let asked = question("clinic", RecordType::A).to_vec().unwrap();
    assert_eq!(parse(&server.stream(&asked).await).answers.len(), 1);
}

#[tokio::test]
async fn without_a_zone_it_fails_and_refuses_what_is_surely_foreign() {
    let data = tempfile::tempdir().unwrap();
    let origin = Name::from_ascii(ORIGIN).unwrap();
    let limits = Limits::default();
    let server = Running::start_at("127.0.0.1:0", data.path(), vec![], Some(origin), limits).await;
    let answer = server.ask("clinic", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let answer = server.ask("example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let mut foreign = zone(7);
    foreign.origin = "other.example.".into();
    assert!(server.current.offer(foreign).await.is_err());
    server.current.offer(zone(7)).await.unwrap();
    assert_eq!(server.ask("clinic", RecordType::A).await.answers.len(), 1);
}
