// SPDX-License-Identifier: MIT
//
// The peer iceoryx2, as bench/peers/external.hpp asks for it: publish-subscribe with loans; asleep, with an event beside
// each topic. 32 bytes go as a typed payload, more as a slice.
use std::fmt::Debug;
use std::io::{BufRead, Write};
use std::mem::MaybeUninit;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory;

type Failure = Box<dyn std::error::Error>;
type Message = [u64; 4];
type Service = ipc::Service;

const TOUCHED_BYTES: usize = 64;
const SETTLE: Duration = Duration::from_micros(50);

#[derive(Clone)]
struct Arguments {
    role: String,
    what: String,
    bytes: usize,
    touched: bool,
    asleep: bool,
    receivers: usize,
    topic: String,
    folder: String,
    prefix: String,
}

impl Arguments {
    fn parse() -> Result<Arguments, Failure> {
        let value = |key: &str| -> Result<String, Failure> {
            let start = format!("{key}=");
            let found =
                std::env::args().find_map(|one| one.strip_prefix(&start).map(str::to_string));
            found.ok_or_else(|| format!("no argument {key}=").into())
        };
        Ok(Arguments {
            role: value("role")?,
            what: value("what")?,
            bytes: value("bytes")?.parse()?,
            touched: value("touched")? == "1",
            asleep: value("wait")? == "sleep",
            receivers: value("receivers")?.parse()?,
            topic: value("topic")?,
            folder: value("folder")?,
            prefix: value("prefix")?,
        })
    }

    fn leads(&self) -> bool {
        self.role == "lead"
    }

    fn node(&self) -> Result<Node<Service>, Failure> {
        let mut config = Config::default();
        config.global.prefix = self.prefix.as_str().try_into()?;
        config
            .global
            .set_root_path(&format!("{}/iceoryx2", self.folder).as_str().try_into()?);
        Ok(NodeBuilder::new().config(&config).create::<Service>()?)
    }
}

fn words_of(position: u64) -> Message {
    [position, position + 1, position + 2, position + 3]
}

fn check(holds: bool, what: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(what.into())
    }
}

// A topic of one kind of payload: 32 bytes, or a slice.
type Topic<P> = port_factory::publish_subscribe::PortFactory<Service, P, ()>;
type Out<P> = Publisher<Service, P, ()>;
type In<P> = Subscriber<Service, P, ()>;

trait Payload: IceoryxSend + Debug + 'static {
    fn open(
        node: &Node<Service>,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Topic<Self>, Failure>;
    fn publisher(topic: &Topic<Self>, arguments: &Arguments) -> Result<Out<Self>, Failure>;
    fn send(out: &Out<Self>, position: u64, arguments: &Arguments) -> Result<(), Failure>;
    // False: nothing there.
    fn take(input: &In<Self>, position: u64, arguments: &Arguments) -> Result<bool, Failure>;
}

macro_rules! open_topic {
    ($node:expr, $name:expr, $payload:ty, $arguments:expr) => {{
        let flow = $arguments.what == "flow";
        Ok($node
            .service_builder(&$name.try_into()?)
            .publish_subscribe::<$payload>()
            .enable_safe_overflow(!flow)
            .subscriber_max_buffer_size(if flow { 64 } else { 2 })
            .subscriber_max_borrowed_samples(2)
            .max_subscribers($arguments.receivers.max(2))
            .max_publishers(2)
            .max_nodes($arguments.receivers + 4)
            .open_or_create()?)
    }};
}

impl Payload for Message {
    fn open(
        node: &Node<Service>,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Topic<Self>, Failure> {
        open_topic!(node, name, Message, arguments)
    }
    fn publisher(topic: &Topic<Self>, arguments: &Arguments) -> Result<Out<Self>, Failure> {
        let strategy = if arguments.what == "flow" {
            BackpressureStrategy::RetryUntilDelivered
        } else {
            BackpressureStrategy::DiscardData
        };
        Ok(topic
            .publisher_builder()
            .backpressure_strategy(strategy)
            .create()?)
    }
    #[inline(always)]
    fn send(out: &Out<Self>, position: u64, _: &Arguments) -> Result<(), Failure> {
        out.loan_uninit()?
            .write_payload(words_of(position))
            .send()?;
        Ok(())
    }
    #[inline(always)]
    fn take(input: &In<Self>, position: u64, _: &Arguments) -> Result<bool, Failure> {
        let Some(sample) = input.receive()? else {
            return Ok(false);
        };
        let right = *sample == words_of(position);
        check(right, "a sample has the wrong content")?;
        Ok(true)
    }
}

impl Payload for [u8] {
    fn open(
        node: &Node<Service>,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Topic<Self>, Failure> {
        open_topic!(node, name, [u8], arguments)
    }
    fn publisher(topic: &Topic<Self>, arguments: &Arguments) -> Result<Out<Self>, Failure> {
        Ok(topic
            .publisher_builder()
            .initial_max_slice_len(arguments.bytes)
            .create()?)
    }
    #[inline(always)]
    fn send(out: &Out<Self>, position: u64, arguments: &Arguments) -> Result<(), Failure> {
        let mut sample = out.loan_slice_uninit(arguments.bytes)?;
        if arguments.touched {
            sample.payload_mut()[..TOUCHED_BYTES].fill(MaybeUninit::new(position as u8));
        }
        // What is not touched holds what an earlier sample left there, as with Holdfast's loans.
        unsafe { sample.assume_init() }.send()?;
        Ok(())
    }
    #[inline(always)]
    fn take(input: &In<Self>, position: u64, arguments: &Arguments) -> Result<bool, Failure> {
        let Some(sample) = input.receive()? else {
            return Ok(false);
        };
        let whole = sample.len() == arguments.bytes;
        check(whole, "a sample has the wrong size")?;
        if arguments.touched {
            let right = sample[..TOUCHED_BYTES] == [position as u8; TOUCHED_BYTES];
            check(right, "a sample has the wrong content")?;
        }
        Ok(true)
    }
}

fn subscriber<P: Payload + ?Sized>(topic: &Topic<P>) -> Result<In<P>, Failure> {
    Ok(topic.subscriber_builder().create()?)
}

fn subscriber_count<P: Payload + ?Sized>(topic: &Topic<P>) -> usize {
    topic.dynamic_config().number_of_subscribers()
}

struct Bells {
    ring: Notifier<Service>,
    wait: Listener<Service>,
}

fn settle() {
    let start = Instant::now();
    while start.elapsed() < SETTLE {}
}

// N operations; how many were completed, and the time they took.
type Block<'a> = Box<dyn FnMut(u64) -> Result<(u64, Duration), Failure> + 'a>;

fn serve(mut block: Block) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let count = line
            .strip_prefix("block ")
            .ok_or("an unknown command")?
            .parse()?;
        let (completed, took) = block(count)?;
        writeln!(out, "{completed} {}", took.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

fn wait_until(mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while !holds() {
        check(
            start.elapsed() < Duration::from_secs(30),
            "the other side did not come",
        )?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn bells(node: &Node<Service>, arguments: &Arguments) -> Result<Bells, Failure> {
    let event = |side: &str| -> Result<_, Failure> {
        let name = format!("{}/bell/{side}", arguments.topic);
        let named = node.service_builder(&name.as_str().try_into()?);
        Ok(named.event().open_or_create()?)
    };
    let there = event("there")?;
    let back = event("back")?;
    let (own, others) = if arguments.leads() {
        (&back, &there)
    } else {
        (&there, &back)
    };
    let made = Bells {
        ring: others.notifier_builder().create()?,
        wait: own.listener_builder().create()?,
    };
    wait_until(|| {
        let all = [
            there.dynamic_config().number_of_listeners(),
            back.dynamic_config().number_of_listeners(),
        ];
        all == [1, 1]
    })?;
    Ok(made)
}

fn round_trip<P: Payload + ?Sized>(arguments: &Arguments) -> Result<(), Failure> {
    let node = arguments.node()?;
    let there = P::open(&node, &format!("{}/there", arguments.topic), arguments)?;
    let back = P::open(&node, &format!("{}/back", arguments.topic), arguments)?;
    let (to, from) = if arguments.leads() {
        (&there, &back)
    } else {
        (&back, &there)
    };
    let out = P::publisher(to, arguments)?;
    let input = subscriber(from)?;
    wait_until(|| subscriber_count(&there) == 1 && subscriber_count(&back) == 1)?;
    let bells = if arguments.asleep {
        Some(bells(&node, arguments)?)
    } else {
        None
    };
    let mut position = 0;
    let send = |position: u64| -> Result<(), Failure> {
        if bells.is_some() {
            settle();
        }
        P::send(&out, position, arguments)?;
        if let Some(bells) = &bells {
            bells.ring.notify()?;
        }
        Ok(())
    };
    serve(Box::new(|count| {
        let start = Instant::now();
        for at in position..position + count {
            if arguments.leads() {
                send(at)?;
            }
            while !P::take(&input, at, arguments)? {
                match &bells {
                    Some(bells) => drop(bells.wait.blocking_wait(|_| {})?),
                    None => std::hint::spin_loop(),
                }
            }
            if !arguments.leads() {
                send(at)?;
            }
        }
        position += count;
        Ok((count, start.elapsed()))
    }))
}

// The lead of all but round trips.
fn publish(topic: &Topic<Message>, arguments: &Arguments) -> Result<(), Failure> {
    let out = Message::publisher(topic, arguments)?;
    wait_until(|| subscriber_count(topic) == arguments.receivers)?;
    let mut position = 0;
    serve(Box::new(|count| {
        let start = Instant::now();
        for at in position..position + count {
            Message::send(&out, at, arguments)?;
        }
        position += count;
        Ok((count, start.elapsed()))
    }))
}

fn flow(arguments: &Arguments) -> Result<(), Failure> {
    let node = arguments.node()?;
    let topic = Message::open(&node, &arguments.topic, arguments)?;
    if arguments.leads() {
        return publish(&topic, arguments);
    }
    let input = subscriber(&topic)?;
    let mut position = 0;
    serve(Box::new(|count| {
        // From the first sample on, where there are more.
        let first = position;
        let mut start = Instant::now();
        for at in first..first + count {
            while !Message::take(&input, at, arguments)? {
                std::hint::spin_loop();
            }
            if at == first && count > 1 {
                start = Instant::now();
            }
        }
        position += count;
        Ok(((count - 1).max(1), start.elapsed()))
    }))
}

// The subscribers' processes live as long as the follower's.
struct Crowd(Vec<Child>);
impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

fn start_crowd(arguments: &Arguments) -> Result<Crowd, Failure> {
    let mut crowd = Crowd(Vec::new());
    for _ in 0..arguments.receivers {
        let others = std::env::args()
            .skip(1)
            .filter(|one| !one.starts_with("role="));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("role=idle")
            .args(others)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        crowd.0.push(command.spawn()?);
    }
    Ok(crowd)
}

fn fan_out(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.role == "follow" {
        let _crowd = start_crowd(arguments)?;
        return serve(Box::new(|count| Ok((count, Duration::ZERO))));
    }
    let node = arguments.node()?;
    let topic = Message::open(&node, &arguments.topic, arguments)?;
    if arguments.role == "idle" {
        let _input = subscriber(&topic)?;
        return serve(Box::new(|count| Ok((count, Duration::ZERO))));
    }
    publish(&topic, arguments)
}

struct OpenTopic {
    _topic: Topic<Message>,
    _out: Out<Message>,
    _input: In<Message>,
}

fn open_one(node: &Node<Service>, name: &str, arguments: &Arguments) -> Result<OpenTopic, Failure> {
    let topic = Message::open(node, name, arguments)?;
    let out = Message::publisher(&topic, arguments)?;
    let input = subscriber(&topic)?;
    Message::send(&out, 0, arguments)?;
    check(
        Message::take(&input, 0, arguments)?,
        "the first sample did not come",
    )?;
    Ok(OpenTopic {
        _topic: topic,
        _out: out,
        _input: input,
    })
}

fn open(arguments: &Arguments) -> Result<(), Failure> {
    let mut opened = 0;
    serve(Box::new(|count| {
        let mut took = Duration::ZERO;
        for _ in 0..count {
            opened += 1;
            let start = Instant::now();
            let node = arguments.node()?;
            let topic = open_one(&node, &format!("{}/{opened}", arguments.topic), arguments)?;
            took += start.elapsed();
            drop(topic);
        }
        Ok((count, took))
    }))
}

fn footprint(arguments: &Arguments) -> Result<(), Failure> {
    let node = arguments.node()?;
    let mut topics = vec![open_one(&node, &arguments.topic, arguments)?];
    serve(Box::new(|count| {
        for _ in 0..count {
            topics.push(open_one(
                &node,
                &format!("{}/{}", arguments.topic, topics.len()),
                arguments,
            )?);
        }
        Ok((count, Duration::ZERO))
    }))
}

fn run() -> Result<(), Failure> {
    set_log_level(LogLevel::Error);
    let arguments = Arguments::parse()?;
    match arguments.what.as_str() {
        "roundtrip" if arguments.bytes == 32 => round_trip::<Message>(&arguments),
        "roundtrip" => round_trip::<[u8]>(&arguments),
        "flow" => flow(&arguments),
        "fanout" => fan_out(&arguments),
        "open" => open(&arguments),
        "footprint" => footprint(&arguments),
        _ => Err("an unknown what=".into()),
    }
}

fn main() {
    if let Err(failure) = run() {
        println!("cannot {}", failure.to_string().replace('\n', " "));
        std::process::exit(1);
    }
}
