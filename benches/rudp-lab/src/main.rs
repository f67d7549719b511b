//! `rudp-lab`: kaos-rudp beside KCP, ENet, renet, QUIC and bare sockets, under the same load.

mod gauge;
mod loss;
mod pipe;
mod stack;
mod stacks;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: gauge::Counting = gauge::Counting;

#[derive(Parser)]
#[command(
    name = "rudp-lab",
    version,
    about = "Measures kaos-rudp beside KCP, ENet, renet, QUIC and bare sockets.",
    before_help = "cargo run --release -p rudp-lab -- all            everything, as Markdown\n\
                   cargo run --release -p rudp-lab -- loss AC        two scenarios of loss\n\
                   cargo run --release -p rudp-lab -- loss --help    what is measured, and how"
)]
struct Typed {
    #[command(subcommand)]
    command: Command,
    /// Seeds of the simulated network; more give steadier figures
    #[arg(long, global = true, default_value_t = 10)]
    seeds: u64,
    /// The first of them
    #[arg(long, global = true, default_value_t = 0)]
    seed: u64,
    /// One seed and short runs: does it work at all?
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Latency of 64-byte messages on lossy links, and bytes on the wire
    ///
    /// A client sends reliable ordered messages to a server in virtual time; the round trip is 50 ms. Latency is the
    /// time from `send` to the moment that the server's application has the message, in steps of 1 ms. Wire bytes are
    /// all bytes of both directions, 28 of IP and UDP headers a datagram, divided by the messages. Each row is one
    /// stack with the settings that its name says, over the same seeds of the network.
    Loss(loss::Args),
}

/// How much is measured.
struct Scale {
    seed: u64,
    seeds: u64,
    quick: bool,
}

impl Scale {
    /// The seeds of the network.
    fn seeds(&self) -> std::ops::Range<u64> {
        self.seed..self.seed + if self.quick { 1 } else { self.seeds.max(1) }
    }
}

fn main() -> ExitCode {
    let typed = Typed::parse();
    let scale = Scale { seed: typed.seed, seeds: typed.seeds, quick: typed.quick };
    let targets = match typed.command {
        Command::Loss(args) => loss::loss(&scale, &args),
    };
    table::print_targets(&targets);
    ExitCode::SUCCESS
}
