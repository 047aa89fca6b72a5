//! The one list of commands.

use crate::command::Command;

/// All commands, in the order of the help listing.
pub static COMMANDS: &[&Command] = &[
    &crate::analyze::ANALYZE,
    &crate::log::LOG,
    &crate::ps::PS,
    &crate::bt::BT,
    &crate::frame::FRAME,
    &crate::frame::UP,
    &crate::frame::DOWN,
    &crate::task::TASK,
    &crate::sig::SIG,
    &crate::runq::RUNQ,
    &crate::waitq::WAITQ,
    &crate::stacks::STACKS,
    &crate::locks::LOCKS,
    &crate::hang::HANG,
    &crate::wq::WQ,
    &crate::rcu::RCU,
    &crate::smp::SMP,
    &crate::softirq::SOFTIRQ,
    &crate::overdue::OVERDUE,
    &crate::cgroup::CGROUP,
    &crate::timer::TIMER,
    &crate::ftrace::FTRACE,
    &crate::kprobes::KPROBES,
    &crate::livepatch::LIVEPATCH,
    &crate::kvm::KVM,
    &crate::hw::HW,
    &crate::ipcs::IPCS,
    &crate::irq::IRQ,
    &crate::set::SET,
    &crate::sys::SYS,
    &crate::clock::CLOCK,
    &crate::sysctl::SYSCTL,
    &crate::sysctl::PARAMS,
    &crate::mach::MACH,
    &crate::mod_cmd::MOD,
    &crate::bpf::BPF,
    &crate::sbitmapq::SBITMAPQ,
    &crate::print::PRINT,
    &crate::structure::STRUCT,
    &crate::structure::UNION,
    &crate::structure::RECORD,
    &crate::files::FILES,
    &crate::fuser::FUSER,
    &crate::mount::MOUNT,
    &crate::net::NET,
    &crate::route::ROUTE,
    &crate::tcp::TCP,
    &crate::qdisc::QDISC,
    &crate::conntrack::CONNTRACK,
    &crate::nft::NFT,
    &crate::dev::DEV,
    &crate::blk::BLK,
    &crate::journal::JOURNAL,
    &crate::rpc::RPC,
    &crate::vtop::VTOP,
    &crate::vtop::PTE,
    &crate::vtop::PTOV,
    &crate::vtop::PTOB,
    &crate::vtop::BTOP,
    &crate::where_cmd::WHERE,
    &crate::kmem::KMEM,
    &crate::meminfo::MEMINFO,
    &crate::slabtop::SLABTOP,
    &crate::frag::FRAG,
    &crate::leaks::LEAKS,
    &crate::owners::OWNERS,
    &crate::pagecache::PAGECACHE,
    &crate::oom::OOM,
    &crate::swap::SWAP,
    &crate::vm::VM,
    &crate::whatis::WHATIS,
    &crate::whatis::PTYPE,
    &crate::refs::REFS,
    &crate::sym::SYM,
    &crate::list_cmd::LIST,
    &crate::tree::TREE,
    #[cfg(feature = "disassemble")]
    &crate::dis::DIS,
    #[cfg(feature = "disassemble")]
    &crate::dis::DISASSEMBLE,
    &crate::text_check::TEXT_CHECK,
    &crate::x::X,
    &crate::gdb::GDB,
    &crate::rd::RD,
    &crate::wr::WR,
    &crate::search::SEARCH,
    &crate::eval::EVAL,
    &crate::ascii::ASCII,
    &crate::rustfilt::RUSTFILT,
    &crate::info::INFO,
    &crate::foreach::FOREACH,
    &crate::alias::ALIAS,
    &crate::exit::EXIT,
    &crate::help::HELP,
    &crate::repeat::REPEAT,
];

/// The command that answers to a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.names.contains(&name)).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_answers_to_names_of_its_own() {
        let mut seen = BTreeSet::new();
        for command in COMMANDS {
            assert!(!command.names.is_empty());
            for name in command.names {
                assert!(seen.insert(name), "two commands answer to {name}");
                assert!(!name.contains(|c: char| c.is_whitespace() || "|<>'\"\\#".contains(c)), "{name}");
            }
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_it() {
        for command in COMMANDS {
            let name = command.name();
            assert!(
                !command.summary.is_empty() && !command.summary.ends_with('.'),
                "{name}: {}",
                command.summary
            );
            assert!(command.summary.len() <= 80, "{name}: a summary is one line of the listing");
            let (prose, transcript) = command.help.split_once("\n```\n").unwrap_or((command.help, ""));
            assert!(prose.trim().len() > 40, "{name}: the page says too little");
            let shown = command.names.iter().any(|name| transcript.contains(&format!("kdive> {name}")));
            assert!(shown, "{name}: the page shows no example");
            assert_eq!(command.help.matches("```").count() % 2, 0, "{name}: a fence is not closed");
            for line in command.help.lines() {
                assert!(line.chars().count() <= 120, "{name}: a line of the page is too long: {line}");
            }
        }
    }

    #[test]
    fn every_option_is_documented_once() {
        for command in COMMANDS {
            let mut seen = BTreeSet::new();
            for option in command.options {
                let (command, name) = (command.name(), option.name);
                assert!(seen.insert(name), "{command} has {name} twice");
                assert!(option.help.len() > 2, "{command} {name}: not documented");
                let letter = name.len() == 2 && name.starts_with('-') && name != "--";
                let long = name.starts_with("--") && name.len() > 3;
                let word = name.strip_prefix('-').is_some_and(|word| word.parse::<u8>().is_ok());
                let other = word || name == "/";
                assert!(letter || long || other, "{command} {name}: neither a letter nor a long option");
                assert_ne!(option.value, Some(""), "{command} {name}: its value has no name");
            }
        }
    }
}
