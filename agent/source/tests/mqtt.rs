//! Samples from an MQTT broker, Debian's mosquitto: where it is not installed each test says `not run: 1` and passes, but not in CI.

use std::path::Path;
use std::process::Command;

use kilter_source::{ChannelSpec, Encoding, Item, MqttConfig, MqttSource, Source, SourceError, Stop};
use kilter_tests::Mosquitto;
use kilter_types::{ChannelId, Hertz, Input, Micros, Name, Timeline, Unit};
use kilter_wire::frame::{self, Kind};
use kilter_wire::sensor::{Block, ChannelOffer, Offer, SensorUp};
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, PublishOptions};

#[test]
fn samples_and_readings_come_with_their_positions_and_times_as_json_and_as_frames() {
    let Some(broker) = Broker::start() else { return };
    let mut source = broker.source(Encoding::Json, "plant/pump-1/#", &[0, 0]);
    connected(&mut source);
    let mut publisher = Publisher::connect(&broker);
    // What lies between 3 and 20 was lost on the way: the position says so.
    for (position, samples) in [(0, "[0, 1, 2]"), (20, "[20, null, 22]")] {
        let text = format!(
            "{{\"channel\":\"de\",\"position\":{position},\"t_us\":{},\"samples\":{samples}}}",
            1000 * position
        );
        publisher.publish("plant/pump-1/de", text.as_bytes());
    }
    publisher.publish(
        "plant/pump-1/slow",
        b"[{\"channel\":\"temp\",\"t_us\":7,\"value\":40.5,\"unit\":\"degC\"},{\"channel\":\"temp\",\"t_us\":7,\"value\":40.5},\
          {\"channel\":\"temp\",\"t_us\":8,\"value\":41.5}]",
    );
    let got = take(&mut source, 4);
    assert_eq!(got[0], Got::Samples(0, 0, vec![Some(0.0), Some(1.0), Some(2.0)]));
    assert_eq!(got[1], Got::Samples(20, 20_000, vec![Some(20.0), None, Some(22.0)]));
    // Readings without a position are counted here, and one that comes twice is one.
    assert_eq!(got[2..], [Got::Reading(0, 7, 40.5), Got::Reading(1, 8, 41.5)]);

    let mut source = broker.source(Encoding::Frames, "plant/pump-1/raw", &[0, 0]);
    connected(&mut source);
    publisher.publish("plant/pump-1/raw", &block(5, &[5.0, 6.0]));
    assert_eq!(take(&mut source, 1), [Got::Samples(5, 5000, vec![Some(5.0), Some(6.0)])]);
}

#[test]
fn a_message_that_is_wrong_is_named_with_its_topic_and_the_next_one_is_taken() {
    let Some(broker) = Broker::start() else { return };
    let mut publisher = Publisher::connect(&broker);
    let mut json = broker.source(Encoding::Json, "plant/pump-1/+", &[0, 0]);
    connected(&mut json);
    let good = "{\"channel\":\"de\",\"position\":0,\"t_us\":0,\"samples\":[1]}";
    for (bad, said) in [
        ("1.5", "read it as JSON"),
        ("{\"channel\":\"de\",\"t_us\":0,\"samples\":[1]}", "channel de: position is missing"),
        ("{\"channel\":\"nde\",\"t_us\":0,\"value\":1}", "channel \"nde\" is not configured (configured: temp, de)"),
        (
            "{\"channel\":\"de\",\"position\":0,\"t_us\":0,\"rate_hz\":990,\"samples\":[1]}",
            "channel de comes with 990 Hz but is configured with 1000 Hz; correct rate_hz in the configuration",
        ),
    ] {
        publisher.publish("plant/pump-1/de", bad.as_bytes());
        publisher.publish("plant/pump-1/de", good.as_bytes());
        assert_eq!(refused(&mut json), ("plant/pump-1/de".to_owned(), said.to_owned()));
        assert_eq!(take(&mut json, 1).len(), 1);
    }
    let mut frames = broker.source(Encoding::Frames, "raw", &[0, 0]);
    connected(&mut frames);
    let whole = block(0, &[1.0]);
    let after_the_offer = frame::length(&whole).expect("a frame").expect("its length");
    for (bad, said) in [
        (&whole[..whole.len() - 1], "the message ends within a frame"),
        (&whole[after_the_offer..], "its first frame is no offer: say machine, units and rates in every message"),
    ] {
        publisher.publish("raw", bad);
        publisher.publish("raw", &whole);
        assert_eq!(refused(&mut frames), ("raw".to_owned(), said.to_owned()));
        assert_eq!(take(&mut frames, 1).len(), 1);
    }
}

#[test]
fn what_nobody_takes_the_broker_keeps_also_while_the_agent_is_away() {
    let Some(broker) = Broker::start() else { return };
    let mut publisher = Publisher::connect(&broker);
    let mut source = broker.source(Encoding::Json, "plant/pump-1", &[0, 0]);
    connected(&mut source);
    let publish = |publisher: &mut Publisher, positions: std::ops::Range<u64>| {
        for position in positions {
            let text =
                format!("{{\"channel\":\"de\",\"position\":{position},\"t_us\":{position},\"samples\":[{position}]}}");
            publisher.publish("plant/pump-1", text.as_bytes());
        }
    };
    // Many times what the queue holds, while nobody asks for any.
    publish(&mut publisher, 0..200);
    let mut seen: Vec<u64> = take(&mut source, 150).iter().map(Got::position).collect();
    drop(source);
    publish(&mut publisher, 200..250);
    let mut source = broker.source(Encoding::Json, "plant/pump-1", &[0, 150]);
    while seen.last() != Some(&249) {
        seen.push(take(&mut source, 1)[0].position());
    }
    // What was taken and not yet acknowledged comes again, in order and at its own position.
    let again = seen.windows(2).filter(|pair| pair[1] <= pair[0]).count();
    assert!(again <= 1, "{seen:?}");
    seen.dedup();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_ends_is_told_and_taken_up_again_when_it_is_back() {
    let Some(mut broker) = Broker::start() else { return };
    let mut source = broker.source(Encoding::Json, "plant/pump-1", &[0, 0]);
    connected(&mut source);
    broker.0.kill();
    until(&mut source, |item| matches!(item, Ok(Item::Interrupted)));
    assert!(broker.0.start_again().expect("it starts"));
    connected(&mut source);
    let mut publisher = Publisher::connect(&broker);
    publisher.publish("plant/pump-1", b"{\"channel\":\"de\",\"position\":9,\"t_us\":9,\"samples\":[9]}");
    assert_eq!(take(&mut source, 1), [Got::Samples(9, 9, vec![Some(9.0)])]);
}

#[test]
fn a_broker_behind_tls_is_believed_by_its_authority_and_asks_who_the_agent_is() {
    let certificate = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (mine, other) = (certificate(), certificate());
    let secured = |folder: &Path| {
        let file = |name: &str| folder.join(name).display().to_string();
        let [cert, key, users] = ["cert.pem", "key.pem", "users"].map(file);
        std::fs::write(&cert, mine.cert.pem()).expect("written");
        std::fs::write(&key, mine.signing_key.serialize_pem()).expect("written");
        let made = Command::new("mosquitto_passwd").args(["-b", "-c", &users, "agent", "a-secret"]).output();
        assert!(made.expect("it comes with mosquitto").status.success());
        format!("certfile {cert}\nkeyfile {key}\nallow_anonymous false\npassword_file {users}\n")
    };
    let Some(broker) = Broker::start_with(secured) else { return };
    let config = |certificate: &rcgen::CertifiedKey<rcgen::KeyPair>, password: &str| MqttConfig {
        credential: Some(("agent".to_owned(), password.to_owned())),
        ca: Some(certificate.cert.pem()),
        ..broker.config(Encoding::Json, "plant/pump-1")
    };
    for wrong in [config(&mine, "guessed"), config(&other, "a-secret")] {
        let mut source = start(wrong, &[0, 0]);
        until(&mut source, |item| {
            assert!(!matches!(item, Ok(Item::Started(_))), "it was let in");
            matches!(item, Err(SourceError::Broker { .. }))
        });
    }
    connected(&mut start(config(&mine, "a-secret"), &[0, 0]));
}

#[test]
fn a_broker_that_is_not_there_and_settings_that_can_not_be_are_named() {
    let config = |address: &str, topic: &str| MqttConfig {
        address: address.to_owned(),
        topic: topic.to_owned(),
        encoding: Encoding::Json,
        client_id: "kilter-pump-1".to_owned(),
        credential: None,
        ca: None,
    };
    for (address, topic, said) in [
        ("plant.example:1883", "a", "give ca_file"),
        ("127.0.0.1", "a", "not host:port"),
        ("127.0.0.1:1883", "a/#/b", "no topic filter"),
    ] {
        let error = config(address, topic).check().expect_err(address);
        assert!(error.contains(said), "{error}");
    }
    let stop = Stop::default();
    let nobody = config("127.0.0.1:1", "a");
    let mut source =
        MqttSource::start(nobody, name("pump-1"), channels(), vec![0, 0], stop.clone()).expect("good settings");
    let mut told = String::new();
    until(&mut source, |item| match item {
        Err(error) => {
            told = error.to_string();
            true
        }
        Ok(_) => false,
    });
    assert!(told.contains("127.0.0.1:1") && told.contains("pump-1"), "{told}");
    stop.set();
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn channels() -> Vec<ChannelSpec> {
    let spec = |channel, unit, rate| ChannelSpec { name: name(channel), unit, rate };
    vec![spec("temp", Unit::DegreeCelsius, None), spec("de", Unit::G, Some(Hertz(1000.0)))]
}

/// One message of frames: an offer of `de` alone, and a block of it.
fn block(position: u64, samples: &[f32]) -> Vec<u8> {
    let offer = ChannelOffer { name: name("de"), unit: Unit::G, rate: Some(Hertz(1000.0)), position };
    let channels = [offer].into_iter().collect();
    let offer = SensorUp::Offer(Offer { asset: name("pump-1"), timeline: Timeline::Source, channels });
    let values: Vec<u8> = samples.iter().flat_map(|value| value.to_le_bytes()).collect();
    let t0 = Micros(position as i64 * 1000);
    let block = SensorUp::Block(Block { channel: ChannelId(0), position, t0, samples: &values });
    let mut room = vec![0; 4096];
    let mut encode = |message| frame::encode(Kind::SensorUp, &message, &mut room).expect("it fits").to_vec();
    [encode(offer), encode(block)].concat()
}

/// An input, owned.
#[derive(Debug, PartialEq)]
enum Got {
    Samples(u64, i64, Vec<Option<f32>>),
    Reading(u64, i64, f32),
}

impl Got {
    fn position(&self) -> u64 {
        match self {
            Self::Samples(position, ..) | Self::Reading(position, ..) => *position,
        }
    }
}

/// The next so many inputs.
fn take(source: &mut MqttSource, count: usize) -> Vec<Got> {
    let mut got = Vec::new();
    until(source, |item| {
        if let Ok(Item::Input { position, input, .. }) = item {
            got.push(match input {
                Input::Block { t0, samples, .. } => {
                    let samples = samples.iter().map(|value| Some(*value).filter(|value| !value.is_nan())).collect();
                    Got::Samples(*position, t0.0, samples)
                }
                Input::Reading { t, value } => Got::Reading(*position, t.0, *value),
                other => panic!("{other:?}"),
            });
        }
        got.len() == count
    });
    got
}

/// The topic of the next message that is refused, and what is said of it.
fn refused(source: &mut MqttSource) -> (String, String) {
    let mut found = None;
    until(source, |item| {
        if let Err(SourceError::Message { from, source, .. }) = item {
            found = Some((from.clone(), source.to_string()));
        }
        found.is_some()
    });
    found.expect("one was refused")
}

fn connected(source: &mut MqttSource) {
    until(source, |item| matches!(item, Ok(Item::Started(Timeline::Source))));
}

/// Asks the source until it says this, for at most half a minute of silence.
fn until(source: &mut MqttSource, mut done: impl FnMut(&Result<Item<'_>, SourceError>) -> bool) {
    let mut idle = 0;
    while idle < 150 {
        let item = source.next();
        idle = if matches!(item, Ok(Item::Idle)) { idle + 1 } else { 0 };
        if done(&item) {
            return;
        }
    }
    panic!("the source says nothing");
}

/// A broker and what is read from it.
struct Broker(Mosquitto);

impl Broker {
    fn start() -> Option<Self> {
        Self::start_with(|_| "allow_anonymous true\n".to_owned())
    }

    fn start_with(settings: impl FnOnce(&Path) -> String) -> Option<Self> {
        Mosquitto::start(settings).expect("mosquitto starts").map(Self)
    }

    fn source(&self, encoding: Encoding, topic: &str, positions: &[u64]) -> MqttSource {
        start(self.config(encoding, topic), positions)
    }

    fn config(&self, encoding: Encoding, topic: &str) -> MqttConfig {
        MqttConfig {
            address: format!("127.0.0.1:{}", self.0.port),
            topic: topic.to_owned(),
            encoding,
            client_id: format!("kilter-{encoding:?}"),
            credential: None,
            ca: None,
        }
    }
}

fn start(config: MqttConfig, positions: &[u64]) -> MqttSource {
    let (positions, stop) = (positions.to_vec(), Stop::default());
    MqttSource::start(config, name("pump-1"), channels(), positions, stop).expect("good settings")
}

/// Publishes with QoS 1 and waits for the broker's word.
struct Publisher {
    client: Client,
    connection: Connection,
}

impl Publisher {
    fn connect(broker: &Broker) -> Self {
        let options = MqttOptions::new("publisher", ("127.0.0.1", broker.0.port));
        let (client, connection) = Client::builder(options).capacity(8).build();
        Self { client, connection }
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.client.publish(topic, payload.to_vec(), PublishOptions::at_least_once()).expect("there is room");
        let mut next = || self.connection.recv().expect("the client lives").expect("the broker is there");
        while !matches!(next(), Event::Incoming(Incoming::PubAck(_))) {}
    }
}
