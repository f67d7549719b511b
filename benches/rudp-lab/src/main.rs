//! `rudp-lab`: kaos-rudp compared with KCP, ENet, renet, QUIC and bare sockets under the same load.

mod bulk;
mod cpu;
mod figures;
mod gauge;
mod line;
mod loss;
mod machine;
mod migrate;
mod pipe;
mod scale;
mod sockets;
mod stack;
mod stacks;
mod table;
mod throughput;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::scale::Scale;

#[global_allocator]
static ALLOCATOR: gauge::Counting = gauge::Counting;

#[derive(Parser)]
#[command(
    name = "rudp-lab",
    version,
    about = "Compares kaos-rudp with KCP, ENet, renet, QUIC and bare sockets.",
    before_help = "cargo run --release -p rudp-lab -- all            everything, as Markdown\n\
                   cargo run --release -p rudp-lab -- loss AC        two scenarios of loss\n\
                   cargo run --release -p rudp-lab -- loss --help    what is measured, and how"
)]
struct Typed {
    #[command(subcommand)]
    command: Command,
    /// Seeds of the simulated network; more of them give steadier figures
    #[arg(long, global = true, default_value_t = 10)]
    seeds: u64,
    /// The first of them
    #[arg(long, global = true, default_value_t = 0)]
    seed: u64,
    /// Only stacks whose name contains this; the best reference is the best of those
    #[arg(long, global = true, default_value = "")]
    only: String,
    /// One seed and short runs, to see whether everything works
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Latency of 64-byte messages on lossy links, and bytes on the wire
    ///
    /// A client sends reliable ordered messages to a server in virtual time; the round trip is 50 ms. Latency is the
    /// time from `send` to the moment that the server's application has the message, in steps of 1 ms. Wire bytes are
    /// all bytes of both directions, with 28 of IP and UDP headers a datagram, divided by the messages. Each row is one
    /// stack with the settings in its name, over the same seeds of the network.
    Loss(loss::Args),
    /// One mebibyte through three bottlenecks: time, overhead, and the queue that it builds
    ///
    /// 1,024 reliable messages of 1,024 bytes, sent as fast as the stack takes them, in virtual time with 50 ms of
    /// round trip. The figure of the queue is how long the datagrams with the data waited at the bottleneck before
    /// their first byte left, which is how long a player's other packets would have waited. Medians over the seeds.
    Bulk,
    /// CPU time, allocations and memory of a server's core, without sockets; a flood of first datagrams
    ///
    /// A server and its clients in one thread hand each other their datagrams in memory. Every client sends a 64-byte
    /// message and gets one, 60 times a virtual second. Only the server's calls are measured, in CPU time of the
    /// thread. In between the clients use the caches, so a server of many peers finds them cold, as after a frame's
    /// other work.
    Cpu,
    /// UDP payload that a 64-byte unreliable message costs, with its share of acknowledgements
    ///
    /// In virtual time on a clean link, 60 messages a second each way.
    Wire,
    /// CPU time of a server on loopback sockets, for each peer and frame, compared with bare datagrams
    ///
    /// One server socket in a thread of its own, a socket for each client in another; in each round every client sends
    /// 64 bytes and gets 64. Only the server's thread is measured, system calls included, in CPU time. The stacks take
    /// turns, so that whatever else the machine does affects all of them.
    Sockets,
    /// Reliable 64-byte messages a second, in memory and over loopback sockets
    ///
    /// In memory both ends run in one thread and hand each other their datagrams, in CPU time. Over sockets the ends
    /// are two threads, in wall time; each of the runs is checked for every message, once and in order.
    Throughput,
    /// A client's port or address changes in mid-stream: what is lost, and how long the gap is
    ///
    /// In virtual time on a clean link, 60 messages a second each way. After a second the client's datagrams
    /// come from another port or another address, and what goes to the old one vanishes, as with a router that forgot
    /// its mapping.
    Migrate,
    /// All of these as one Markdown report: the machine, the tables, and each target with our figure and the best
    /// reference
    All,
}

fn all(scale: &Scale) -> Vec<table::Target> {
    machine::print(scale);
    let mut targets = loss::loss(scale, &loss::Args::all());
    targets.extend(bulk::bulk(scale));
    targets.extend(migrate::migrate(scale));
    targets.extend(wire::wire(scale));
    targets.extend(cpu::cpu(scale));
    targets.extend(sockets::sockets(scale));
    targets.extend(throughput::throughput(scale));
    targets
}

fn main() -> ExitCode {
    let typed = Typed::parse();
    let scale = Scale { seed: typed.seed, seeds: typed.seeds, only: typed.only, quick: typed.quick };
    let targets = match typed.command {
        Command::Loss(args) => loss::loss(&scale, &args),
        Command::Bulk => bulk::bulk(&scale),
        Command::Cpu => cpu::cpu(&scale),
        Command::Wire => wire::wire(&scale),
        Command::Migrate => migrate::migrate(&scale),
        Command::Sockets => sockets::sockets(&scale),
        Command::Throughput => throughput::throughput(&scale),
        Command::All => all(&scale),
    };
    table::print_targets(&targets);
    ExitCode::SUCCESS
}
