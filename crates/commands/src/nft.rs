//! `nft`: the tables, chains and rules of nftables.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::net::nft::{self, Chain, Hook, Rules, Table};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::netns;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// Shows nftables.
pub(crate) static NFT: Command = Command {
    names: &["nft"],
    group: Group::Devices,
    summary: "the tables, chains and rules of nftables, with what they counted",
    operands: "",
    options: &[
        Opt::value("-n", "pid | task", "those of the namespace of a task"),
        Opt::flag("-A", "those of all network namespaces"),
    ],
    help: include_str!("nft.md"),
    run: Run::Once(run),
};

/// A table.
#[derive(Debug, Serialize)]
struct Row {
    /// Its `struct nft_table`.
    table: VirtAddr,
    /// The number of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<u32>,
    /// `inet`, `ip`...
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    sets: Vec<SetRow>,
    chains: Vec<ChainRow>,
}

/// A set or map.
#[derive(Debug, Serialize)]
struct SetRow {
    set: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<u32>,
}

/// A chain.
#[derive(Debug, Serialize)]
struct ChainRow {
    chain: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    #[serde(flatten)]
    hook: Option<HookRow>,
    rules: Vec<RuleRow>,
}

/// Where packets come into a chain.
#[derive(Debug, Serialize)]
struct HookRow {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'static str>,
}

/// A rule.
#[derive(Debug, Serialize)]
struct RuleRow {
    rule: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    /// In the words of `nft --debug=netlink`; of an expression that is not known, its name.
    expressions: Vec<String>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (family, name) = (Known(self.family.as_deref()), Known(self.name.as_deref()));
        writeln!(out, "table {family} {name}  {}  handle {}", self.table, Known(self.handle))?;
        for set in &self.sets {
            let (name, count) = (Known(set.name.as_deref()), Known(set.elements));
            writeln!(out, "  set {name}  {}  {count} elements", set.set)?;
        }
        for chain in &self.chains {
            write!(out, "  chain {}  {}", Known(chain.name.as_deref()), chain.chain)?;
            if let Some(hook) = &chain.hook {
                let (kind, at) = (Known(hook.kind.as_deref()), Known(hook.hook.as_deref()));
                write!(out, "  type {kind} hook {at} priority {}", Known(hook.priority))?;
                write!(out, " policy {}", Known(hook.policy))?;
            }
            writeln!(out)?;
            for rule in &chain.rules {
                writeln!(out, "    rule {}  {}", Known(rule.handle), rule.rule)?;
                rule.expressions.iter().try_for_each(|of| writeln!(out, "      [ {of} ]"))?;
            }
        }
        Ok(())
    }
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if !nft::is_there(&kernel) {
        out.heading("This kernel has no nftables: nf_tables is not loaded, or its types are not known.\n")?;
        return Ok(());
    }
    let mut any = false;
    for namespace in netns::chosen(cx, "nft", args)? {
        let place = || format!("net {:#}", namespace.at);
        let Some(rules) = cx.known(Rules::of(&kernel, namespace.at), "tables", place) else { continue };
        for table in cx.known(rules.tables(), "tables", place).unwrap_or_default() {
            cx.cancel.check()?;
            any = true;
            let row = row(cx, &rules, namespace.number, &table);
            out.row(&row, &())?;
        }
    }
    if !any {
        out.heading("No tables.\n")?;
    }
    Ok(())
}

fn row(cx: &mut Cx, rules: &Rules<'_>, namespace: Option<u32>, table: &Table) -> Row {
    let place = || format!("nft_table {:#}", table.at);
    let family = cx.known(table.family.clone(), "families", place);
    let chains = cx.known(rules.chains(table), "chains", place).unwrap_or_default();
    let sets = cx.known(rules.sets(table), "sets", place).unwrap_or_default();
    let sets = sets.into_iter().map(|set| SetRow {
        set: set.at,
        name: cx.known(set.name, "names", place),
        elements: set.elements.ok(),
    });
    let sets = sets.collect();
    Row {
        table: table.at,
        namespace,
        family: family.map(family_name),
        name: cx.known(table.name.clone(), "names", place),
        handle: table.handle.clone().ok(),
        sets,
        chains: chains.iter().map(|chain| chain_row(cx, rules, family, chain)).collect(),
    }
}

fn chain_row(cx: &mut Cx, rules: &Rules<'_>, family: Option<u8>, chain: &Chain) -> ChainRow {
    let place = || format!("nft_chain {:#}", chain.at);
    let hook = chain.hook.as_ref().map(|hook: &Hook| HookRow {
        kind: cx.known(hook.kind.clone(), "types of chains", place),
        hook: cx.known(hook.number.clone(), "hooks", place).map(|number| hook_name(family, number)),
        priority: cx.known(hook.priority.clone(), "priorities", place),
        policy: hook.policy.clone().ok().map(|policy| if policy == 0 { "drop" } else { "accept" }),
    });
    let mut found = Vec::new();
    for rule in cx.known(rules.rules(chain), "rules", place).unwrap_or_default() {
        if let Some(lacks) = &rule.incomplete {
            cx.lacks(lacks, "expressions", || format!("nft_rule {:#}", rule.at));
        }
        found.push(RuleRow { rule: rule.at, handle: rule.handle.ok(), expressions: rule.expressions });
    }
    ChainRow {
        chain: chain.at,
        name: cx.known(chain.name.clone(), "names", place),
        handle: chain.handle.clone().ok(),
        hook,
        rules: found,
    }
}

/// `NFPROTO_*`, include/uapi/linux/netfilter.h.
fn family_name(family: u8) -> String {
    match family {
        1 => "inet".into(),
        2 => "ip".into(),
        3 => "arp".into(),
        5 => "netdev".into(),
        7 => "bridge".into(),
        10 => "ip6".into(),
        other => other.to_string(),
    }
}

/// The hooks of a family (`enum nf_inet_hooks`, `nf_dev_hooks`; NF_ARP_*).
fn hook_name(family: Option<u8>, number: u32) -> String {
    let names: &[&str] = match family {
        Some(3) => &["input", "output", "forward"],
        Some(5) => &["ingress", "egress"],
        _ => &["prerouting", "input", "forward", "output", "postrouting", "ingress"],
    };
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_of_their_family() {
        assert_eq!(hook_name(Some(1), 1), "input");
        assert_eq!(hook_name(Some(5), 0), "ingress");
        assert_eq!(hook_name(Some(3), 2), "forward");
        assert_eq!(hook_name(None, 77), "77");
        assert_eq!(family_name(10), "ip6");
    }
}
