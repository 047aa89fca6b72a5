//! The firmware's description of the machine (drivers/firmware/dmi_scan.c).

use kdive_base::printable;
use kdive_debuginfo::{Tag, Type};
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

/// One string of the firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DmiString {
    /// The kernel's name of the field (`DMI_SYS_VENDOR`).
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The strings that the kernel kept: `dmi_ident[]`, named by the enumerators of `enum dmi_field`.
pub fn dmi(kernel: &Kernel) -> Field<Vec<Field<DmiString>>> {
    /// Longer than any firmware's string.
    const LONGEST: usize = 1024;
    let table = kernel.symbol("dmi_ident")?;
    let types = kernel.types()?;
    let id = types.find(Tag::Enum, "dmi_field").map_err(|_| Lacks::Type("dmi_field".into()))?;
    let fields = match types.get(id).as_deref() {
        Some(Type::Enum(fields)) => fields.values.clone(),
        _ => return Err(Lacks::Type("dmi_field".into())),
    };
    let memory = kernel.memory();
    let mut strings = Vec::new();
    for (name, index) in fields {
        // The first is "none"; those from the maximum on are kinds of matches, not strings.
        if &*name == "DMI_STRING_MAX" {
            break;
        }
        let Ok(index @ 1..) = u64::try_from(index) else { continue };
        let text = match memory.pointer(table.add(index.wrapping_mul(8))) {
            Ok(at) if at.is_null() => continue,
            Ok(at) => memory.c_string(at, LONGEST),
            Err(missing) => Err(missing),
        };
        let string = text.map(|text| DmiString { name: name.to_string(), text: printable(&text) });
        strings.push(string.map_err(Lacks::from));
    }
    Ok(strings)
}
