//! Sources against real sockets and files.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use kilter_source::{ChannelSpec, Difference, FileConfig, FileSource, Item, SocketSource, Source, SourceError, Stop};
use kilter_types::{ChannelId, Hertz, Input, Micros, Name, Timeline, Unit};
use kilter_wire::frame::{self, Kind};
use kilter_wire::sensor::{Block, ChannelOffer, Offer, SensorDown, SensorUp};

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn spec(channel: &str, unit: Unit, rate_hz: Option<f32>) -> ChannelSpec {
    ChannelSpec { name: name(channel), unit, rate: rate_hz.map(Hertz) }
}

fn send(stream: &mut TcpStream, message: &SensorUp<'_>) {
    let mut bytes = vec![0; 100_000];
    stream.write_all(frame::encode(Kind::SensorUp, message, &mut bytes).expect("it fits")).expect("the agent reads");
}

/// Accepts one conversation, answers with an offer, then with samples 0, 1, 2, … from where it was asked, and hangs up.
fn sensor(listener: &TcpListener, unit: Unit, rate_hz: f32, samples: u64) -> JoinHandle<u64> {
    let listener = listener.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the agent comes");
        let mut bytes = Vec::new();
        let SensorDown::Subscribe { asset, from } = loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the agent subscribes");
            bytes.push(byte[0]);
            if frame::length(&bytes) == Ok(Some(bytes.len())) {
                break frame::decode(Kind::SensorDown, &bytes).expect("a good frame");
            }
        };
        let from = from[0].1;
        let mut channels = heapless::Vec::new();
        for (channel, position) in [("other", 0), ("de", from)] {
            let offer = ChannelOffer { name: name(channel), unit, rate: Some(Hertz(rate_hz)), position };
            channels.push(offer).expect("two fit");
        }
        send(&mut stream, &SensorUp::Offer(Offer { asset, timeline: Timeline::Source, channels }));
        let values: Vec<u8> = (from..from + samples).flat_map(|i| (i as f32).to_le_bytes()).collect();
        for (i, part) in values.chunks(4 * 7).enumerate() {
            let position = from + 7 * i as u64;
            send(
                &mut stream,
                &SensorUp::Block(Block { channel: ChannelId(0), position, t0: Micros(0), samples: part }),
            );
            send(
                &mut stream,
                &SensorUp::Block(Block { channel: ChannelId(1), position, t0: Micros(0), samples: part }),
            );
        }
        from
    })
}

#[test]
fn a_cut_conversation_goes_on_at_the_position_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut source =
        SocketSource::new(&address, name("pump-1"), vec![spec("de", Unit::G, Some(1000.0))], vec![5], Stop::default());
    let mut got = Vec::new();
    let mut froms = Vec::new();
    for _ in 0..2 {
        let conversation = sensor(&listener, Unit::G, 1000.0, 20);
        loop {
            match source.next().expect("a good conversation") {
                Item::Input { channel, position, input: Input::Block { samples, .. } } => {
                    assert_eq!(channel, ChannelId(0), "the channel that nobody asked for is left out");
                    assert_eq!(position, 5 + got.len() as u64);
                    got.extend_from_slice(samples);
                }
                Item::Interrupted => break,
                Item::Started(Timeline::Source) | Item::Idle => {}
                other => panic!("{other:?}"),
            }
        }
        froms.push(conversation.join().expect("the sensor ends well"));
    }
    assert_eq!(froms, [5, 25]);
    assert_eq!(got, (5..45).map(|i| i as f32).collect::<Vec<_>>());
}

#[test]
fn an_offer_with_another_unit_or_rate_is_refused() {
    for (unit, rate_hz, expected) in [
        (
            Unit::MetrePerSecondSquared,
            1000.0,
            Difference::Unit { channel: name("de"), configured: Unit::G, offered: Unit::MetrePerSecondSquared },
        ),
        (
            Unit::G,
            990.0,
            Difference::Rate { channel: name("de"), configured: Some(Hertz(1000.0)), offered: Some(Hertz(990.0)) },
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let conversation = sensor(&listener, unit, rate_hz, 0);
        let channels = vec![spec("de", Unit::G, Some(1000.0))];
        let mut source = SocketSource::new(&address, name("pump-1"), channels, vec![0], Stop::default());
        let error = loop {
            match source.next() {
                Ok(Item::Idle) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, SourceError::Offer { difference, .. } if **difference == expected), "{error}");
        conversation.join().expect("the sensor ends well");
    }
}

#[test]
fn a_file_is_replayed_from_the_position_reached_and_undeclared_rates_are_refused() {
    let dir = std::env::temp_dir().join(format!("kilter-source-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = dir.join("pump.csv");
    let rows: String = (0..9000).map(|i| format!("{i}\n")).collect();
    std::fs::write(&path, rows).expect("a file");
    let mut config = FileConfig {
        path,
        rate: None,
        unit: Some(Unit::G),
        rpm: None,
        t0: Micros(0),
        cycle: Micros(0),
        csv: None,
        speed: 0.0,
    };
    let channels = [spec("de", Unit::G, Some(1000.0))];
    let open = |config: &FileConfig| FileSource::open(config, &name("pump-1"), &channels, vec![5000], Stop::default());
    assert!(open(&config).is_err(), "no rate is declared");
    config.rate = Some(Hertz(1000.0));
    let mut source = open(&config).expect("all is declared");
    let mut got = Vec::new();
    loop {
        match source.next().expect("a good file") {
            Item::Input { position, input: Input::Block { t0, samples, .. }, .. } => {
                assert_eq!(position, 5000 + got.len() as u64);
                assert_eq!(t0.0, position as i64 * 1000);
                got.extend_from_slice(samples);
            }
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(got, (5000..9000).map(|i| i as f32).collect::<Vec<_>>());
    std::fs::remove_dir_all(&dir).expect("cleaned up");
}
