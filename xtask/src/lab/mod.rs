//! `cargo xtask lab`: the crash lab. `lab/README.md` describes it for its users.

mod accuracy;
mod bench;
mod boot;
mod capture;
mod check;
mod compare;
mod console;
mod descriptor;
mod diff;
mod evidence;
mod filter;
mod format;
mod guest;
mod kernel;
mod kernels;
mod matrix;
mod peers;
mod place;
mod qmp;
mod scenario;
mod situations;
mod suite;
mod truth;
mod vary;
mod words;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

pub(crate) use accuracy::{AccuracyArgs, main as accuracy};
pub(crate) use bench::{BenchArgs, main as bench};
pub(crate) use diff::{DiffArgs, main as diff};
use place::Lab;

#[derive(Args)]
pub(crate) struct LabArgs {
    /// Where kernels and dumps are kept, outside the repository.
    #[arg(long, env = "KDIVE_LAB", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Install what the lab needs, take the newest stock kernels, build the crasher module and the guests.
    #[command(alias = "kernels")]
    Prepare(kernel::PrepareArgs),
    /// Build the guest's programs and initial RAM disks anew, for the kernels that there are, without the network.
    Guests,
    /// Boot one kernel, break it in one way, and keep its dumps.
    Boot(boot::BootArgs),
    /// Make the whole matrix of kernels, scenarios and formats; what exists is kept.
    All(matrix::AllArgs),
    /// Compare what kdive says of the dumps with what their guests wrote down.
    Check(check::CheckArgs),
    /// Have kdive write dumps in capture kernels, and kdive, crash and drgn read them.
    Capture(capture::CaptureArgs),
    /// Compare which pages kdive and makedumpfile leave out of the dumps.
    Filter(filter::FilterArgs),
    /// List the dumps.
    List,
    /// List the scenarios.
    Scenarios,
}

pub(crate) fn main(args: LabArgs) -> Result<()> {
    let lab = Lab::open(args.dir)?;
    match args.action {
        Action::Prepare(args) => kernel::prepare(&lab, &args),
        Action::Guests => kernel::rebuild_guests(&lab),
        Action::Boot(args) => boot::main(&lab, &args),
        Action::All(args) => matrix::all(&lab, &args),
        Action::Check(args) => check::check(&lab, &args),
        Action::Capture(args) => capture::main(&lab, &args),
        Action::Filter(args) => filter::main(&lab, &args),
        Action::List => matrix::list(&lab),
        Action::Scenarios => {
            scenario::print_table();
            Ok(())
        }
    }
}
