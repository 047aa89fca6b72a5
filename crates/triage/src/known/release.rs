//! Kernel releases: whose kernel it is, and which of two is newer.
//!
//! A release (`uname -r`) is compared within its family only: `3.10.0-693.11.1.el7` says nothing of what of 6.6 it has.
//! Kernels that follow the stable series of kernel.org (Debian, Fedora, Amazon, home-made ones) are one family, compared
//! by the stable version.

use std::cmp::Ordering;
use std::fmt;

/// A kernel release, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    family: Family,
    /// What is compared, without architecture and flavour.
    version: String,
}

/// Whose kernel it is: names as the files of known issues write them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// kernel.org, and all that carries its stable version in its own.
    Upstream,
    /// Red Hat Enterprise Linux and its clones, by major version.
    Enterprise(u32),
    /// Ubuntu, by base version (`ubuntu-5.15`).
    Ubuntu(String),
    /// SUSE Linux Enterprise and Leap, by base version (`suse-5.14.21`).
    Suse(String),
    /// Oracle's UEK, by base version.
    Uek(String),
    /// Proxmox, by base version.
    Proxmox(String),
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream => f.write_str("upstream"),
            Self::Enterprise(major) => write!(f, "el{major}"),
            Self::Ubuntu(base) => write!(f, "ubuntu-{base}"),
            Self::Suse(base) => write!(f, "suse-{base}"),
            Self::Uek(base) => write!(f, "uek-{base}"),
            Self::Proxmox(base) => write!(f, "proxmox-{base}"),
        }
    }
}

impl Release {
    /// Takes a release apart. `version` is `uname -v`: Debian writes there which stable kernel it is. `None` when it does not
    /// begin with a version.
    #[must_use]
    pub fn parse(release: &str, version: Option<&str>) -> Option<Self> {
        let release = release.trim();
        let base = base(release)?;
        if let Some(major) = enterprise(release, base) {
            let version = trimmed_enterprise(release);
            return Some(Self { family: Family::Enterprise(major), version });
        }
        let rest = release.get(base.len()..).unwrap_or_default();
        let versioned = |family: fn(String) -> Family| {
            Some(Self { family: family(two_parts(base)), version: numbers(release) })
        };
        if rest.contains("uek") {
            return versioned(Family::Uek);
        }
        if rest.ends_with("-pve") {
            return versioned(Family::Proxmox);
        }
        let says = |word: &str| version.is_some_and(|version| version.contains(word));
        if says("Ubuntu") || ["-generic", "-lowlatency"].iter().any(|flavour| rest.ends_with(flavour)) {
            return versioned(Family::Ubuntu);
        }
        if ["-default", "-preempt"].iter().any(|flavour| rest.ends_with(flavour))
            && rest.len() > "-default".len()
        {
            return Some(Self { family: Family::Suse(base.to_owned()), version: numbers(release) });
        }
        // `#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-10-01)`
        let debian = version.and_then(|version| version.split_once("Debian ")).and_then(|(_, package)| {
            let package = package.split_whitespace().next()?;
            self::base(package)
        });
        let candidate = rest.strip_prefix("-rc").map(|number| {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            format!("{}-rc{digits}", base.trim_end_matches(".0"))
        });
        // An ABI name (`6.1.0-56-amd64`) does not tell the stable version.
        let is_abi_name = base.ends_with(".0") && !rest.is_empty() && candidate.is_none() && debian.is_none();
        if is_abi_name && !rest.starts_with('+') && is_debian(rest) {
            return Some(Self { family: Family::Upstream, version: String::new() });
        }
        let version = debian.map(str::to_owned).or(candidate).unwrap_or_else(|| base.to_owned());
        Some(Self { family: Family::Upstream, version })
    }

    /// A version as it stands in a file of known issues, of the family that it is listed under.
    fn listed(family: &Family, version: &str) -> String {
        match family {
            Family::Enterprise(_) => trimmed_enterprise(version),
            Family::Upstream => version.to_owned(),
            _ => numbers(version),
        }
    }

    /// Whose kernel it is.
    #[must_use]
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// Whether this release has what came in with `versions`, all of its own family: the newest of them holds for all later
    /// ones, each other one for its own series (`6.1.76` for all later 6.1, `3.10.0-957.46.1.el7` for all later -957).
    /// `None` when the release does not tell, or nothing is listed.
    #[must_use]
    pub fn reached<'v>(&self, versions: impl IntoIterator<Item = &'v str>) -> Option<bool> {
        let listed: Vec<String> =
            versions.into_iter().map(|version| Self::listed(&self.family, version)).collect();
        let newest = listed.iter().max_by(|a, b| compare(a, b))?;
        if self.version.is_empty() {
            return None;
        }
        let series = self.series(&self.version);
        let reached = |version: &String| compare(&self.version, version) != Ordering::Less;
        Some(
            reached(newest)
                || listed.iter().any(|version| self.series(version) == series && reached(version)),
        )
    }

    /// What stable or errata updates are made for: `6.1` of `6.1.76`, `3.10.0-957` of `3.10.0-957.46.1.el7`.
    fn series<'v>(&self, version: &'v str) -> &'v str {
        let end = match self.family {
            Family::Enterprise(_) => {
                let build = version.find('-').map_or(0, |at| at.saturating_add(1));
                let rest = version.get(build..).unwrap_or_default();
                build.saturating_add(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()))
            }
            Family::Upstream => {
                match (0..version.len()).filter(|at| version.as_bytes().get(*at) == Some(&b'.')).nth(1) {
                    Some(second) => second,
                    None => version.find('-').unwrap_or(version.len()),
                }
            }
            // One series each.
            _ => 0,
        };
        version.get(..end).unwrap_or(version)
    }
}

/// `6.1.0` of `6.1.0-56-amd64`.
fn base(release: &str) -> Option<&str> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let base = release.get(..end)?.trim_end_matches('.');
    (base.contains('.') && base.starts_with(|c: char| c.is_ascii_digit())).then_some(base)
}

fn two_parts(base: &str) -> String {
    base.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

fn is_debian(rest: &str) -> bool {
    ["amd64", "686", "686-pae", "arm64", "cloud-amd64", "rt-amd64"]
        .iter()
        .any(|flavour| rest.ends_with(flavour))
}

/// The major version of Red Hat's distribution: from `.el7`, or for the old ones from their base version.
fn enterprise(release: &str, base: &str) -> Option<u32> {
    if release.contains("uek") {
        return None;
    }
    if let Some((_, rest)) = release.split_once(".el") {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(major) = digits.parse() {
            return Some(major);
        }
    }
    if release.contains(".EL") || release.contains("EL") && release.contains('-') {
        return match base {
            "2.4.9" => Some(2),
            "2.4.21" => Some(3),
            "2.6.9" => Some(4),
            "2.6.18" => Some(5),
            _ => None,
        };
    }
    None
}

/// Without architecture and flavour: `2.6.9-78` of `2.6.9-78.ELsmp`, `3.10.0-693.11.1.el7` of `3.10.0-693.11.1.el7.x86_64.debug`.
fn trimmed_enterprise(release: &str) -> String {
    if let Some(at) = release.find(".EL").or_else(|| release.find("EL")) {
        return release.get(..at).unwrap_or(release).to_owned();
    }
    let Some(at) = release.find(".el") else { return release.to_owned() };
    let tail = release.get(at.saturating_add(1)..).unwrap_or_default();
    // `.el8_6` keeps its minor version.
    let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(tail.len());
    let end = ["PAE", "xen", "debug"]
        .iter()
        .filter_map(|flavour| tail.get(..end)?.find(flavour))
        .min()
        .unwrap_or(end);
    release.get(..at.saturating_add(1).saturating_add(end)).unwrap_or(release).to_owned()
}

/// The leading part of numbers, dots and dashes: `5.15.0-91` of `5.15.0-91-generic`.
fn numbers(release: &str) -> String {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(release.len());
    release.get(..end).unwrap_or(release).trim_end_matches(['-', '.']).to_owned()
}

/// Which of two versions is newer, as package managers compare them: runs of digits by value, runs of letters by the
/// alphabet, a number above a letter, more above less, and `-rc` below nothing.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let mut left = parts(a);
    let mut right = parts(b);
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (Some(part), None) => {
                return if part == Part::Letters("rc") { Ordering::Less } else { Ordering::Greater };
            }
            (None, Some(part)) => {
                return if part == Part::Letters("rc") { Ordering::Greater } else { Ordering::Less };
            }
            (Some(Part::Number(a)), Some(Part::Number(b))) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Some(Part::Letters(a)), Some(Part::Letters(b))) => a.cmp(b),
            (Some(Part::Number(_)), Some(Part::Letters(_))) => Ordering::Greater,
            (Some(Part::Letters(_)), Some(Part::Number(_))) => Ordering::Less,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'t> {
    /// Without leading zeros.
    Number(&'t str),
    Letters(&'t str),
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_digit = rest.chars().next()?.is_ascii_digit();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() || c.is_ascii_digit() != is_digit)
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(if is_digit { Part::Number(part.trim_start_matches('0')) } else { Part::Letters(part) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(release: &str) -> String {
        Release::parse(release, None).unwrap().family.to_string()
    }

    #[test]
    fn releases_name_their_family() {
        assert_eq!(family("2.4.21-47.ELhugemem"), "el3");
        assert_eq!(family("2.6.9-78.0.22.ELsmp"), "el4");
        assert_eq!(family("2.6.18-194.3.1.el5"), "el5");
        assert_eq!(family("2.6.32-279.14.1.el6.x86_64"), "el6");
        assert_eq!(family("3.10.0-693.11.1.el7"), "el7");
        assert_eq!(family("4.18.0-372.9.1.el8_6.x86_64"), "el8");
        assert_eq!(family("5.15.0-101.103.2.1.el8uek.x86_64"), "uek-5.15");
        assert_eq!(family("5.15.0-91-generic"), "ubuntu-5.15");
        assert_eq!(family("5.14.21-150500.55.19-default"), "suse-5.14.21");
        assert_eq!(family("5.15.131-2-pve"), "proxmox-5.15");
        assert_eq!(family("6.12.117+deb12-amd64"), "upstream");
        assert_eq!(family("2.6.35.12-88.fc14.x86_64"), "upstream");
        assert_eq!(family("6.6.30"), "upstream");
        assert!(Release::parse("unknown", None).is_none());
    }

    #[test]
    fn versions_compare_as_packages_do() {
        let ascending = [
            "2.6.9-78",
            "2.6.9-78.0.22",
            "2.6.9-89",
            "2.6.32-279.el6",
            "2.6.32-279.14.1.el6",
            "2.6.32-431.el6",
            "3.10.0-693.el7",
            "3.10.0-693.11.1.el7",
            "3.10.0-1127.el7",
            "6.6-rc1",
            "6.6-rc12",
            "6.6",
            "6.6.0",
            "6.6.30",
            "6.10",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("3.010", "3.10"), Ordering::Equal);
    }

    fn reached(release: &str, version: Option<&str>, listed: &[&str]) -> Option<bool> {
        Release::parse(release, version).unwrap().reached(listed.iter().copied())
    }

    #[test]
    fn a_stable_fix_is_in_its_own_series_and_the_newest_in_all_later_ones() {
        let fix = ["6.8", "6.7.3", "6.6.15", "6.1.76"];
        assert_eq!(reached("6.6.14", None, &fix), Some(false));
        assert_eq!(reached("6.6.15", None, &fix), Some(true));
        assert_eq!(reached("6.7.2", None, &fix), Some(false));
        assert_eq!(reached("6.5.13", None, &fix), Some(false), "a series without the fix");
        assert_eq!(reached("6.12.117+deb12-amd64", None, &fix), Some(true));
        assert_eq!(reached("6.8.0-rc3", None, &fix), Some(false));
        assert_eq!(reached("6.1.0-56-amd64", None, &fix), None, "the ABI name does not tell");
        let debian = Some("#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-10-01)");
        assert_eq!(reached("6.1.0-56-amd64", debian, &fix), Some(true));
        assert_eq!(reached("6.6.8-200.fc39.x86_64", None, &fix), Some(false));
        assert_eq!(reached("6.6.8", None, &[]), None);
    }

    #[test]
    fn an_erratum_is_in_its_own_series() {
        let fix = ["3.10.0-1127.el7", "3.10.0-957.46.1.el7"];
        assert_eq!(reached("3.10.0-957.45.1.el7.x86_64", None, &fix), Some(false));
        assert_eq!(reached("3.10.0-957.46.1.el7.x86_64", None, &fix), Some(true));
        assert_eq!(reached("3.10.0-1062.el7.x86_64", None, &fix), Some(false));
        assert_eq!(reached("3.10.0-1160.el7.x86_64", None, &fix), Some(true));
        assert_eq!(reached("2.6.9-78.ELsmp", None, &["2.6.9-78.0.22.EL"]), Some(false));
        assert_eq!(reached("2.6.9-89.ELsmp", None, &["2.6.9-78.0.22.EL"]), Some(true));
    }
}
