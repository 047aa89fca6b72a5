//! Parameters of modules and of what is built in (`struct kernel_param`, include/linux/moduleparam.h; kernel/params.c).

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, Loader};

use super::setting::{Integer, Setting};

/// A parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its `struct kernel_param`.
    pub at: VirtAddr,
    /// The module; of what is built in the part of the name before the dot, `kernel` where it has none.
    pub module: String,
    /// Its name.
    pub name: String,
    /// Whether it is built in.
    pub built_in: bool,
    /// What sets it: `param_ops_int`.
    pub operations: Option<String>,
    /// Where the value lies.
    pub data: VirtAddr,
    /// The value.
    pub value: Field<Setting>,
}

/// All parameters, and why some may be lacking.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Those that are built in, then those of modules.
    pub list: Vec<Parameter>,
    /// What could not be read.
    pub incomplete: Vec<Lacks>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kernel_param")]
struct Fields {
    name: Field<VirtAddr>,
    ops: Field<VirtAddr>,
    arg: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kparam_string")]
struct Text {
    maxlen: Field<u32>,
    string: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kparam_array")]
struct Array {
    max: Field<u32>,
    elemsize: Field<u32>,
    num: Field<VirtAddr>,
    ops: Field<VirtAddr>,
    elem: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "module")]
struct ModuleFields {
    kp: Field<VirtAddr>,
    num_kp: Field<u32>,
}

/// More parameters than any module, or kernel, has.
const MOST: u64 = 1 << 14;
/// Longer than any name.
const MOST_NAME: usize = 256;

/// The parameters of the kernel and of its modules.
///
/// # Errors
/// The kernel's types or symbols are lacking.
pub fn parameters(kernel: &Kernel) -> Field<Parameters> {
    let reader = Reader { kernel, loader: kernel.loader(), bytes: kernel.size_of("kernel_param")?.max(1) };
    let mut found = Parameters::default();
    match (kernel.symbol("__start___param"), kernel.symbol("__stop___param")) {
        (Ok(first), Ok(end)) => {
            let count = end.0.saturating_sub(first.0) / reader.bytes;
            reader.read(first, count, None, &mut found);
        }
        (Err(lacks), _) | (_, Err(lacks)) => found.incomplete.push(lacks),
    }
    for module in kernel.modules().iter() {
        let fields: ModuleFields = kernel.load(module.fields.at);
        match (fields.kp, fields.num_kp) {
            (Ok(first), Ok(count)) => reader.read(first, count.into(), Some(&module.name), &mut found),
            (Err(lacks), _) | (_, Err(lacks)) => found.incomplete.push(lacks),
        }
    }
    Ok(found)
}

struct Reader<'k> {
    kernel: &'k Kernel,
    loader: Loader<'k, Fields>,
    bytes: u64,
}

impl Reader<'_> {
    /// Adds an array of parameters.
    fn read(&self, first: VirtAddr, count: u64, module: Option<&str>, into: &mut Parameters) {
        for index in 0..count.min(MOST) {
            let at = first.add(index.wrapping_mul(self.bytes));
            match self.parameter(at, module) {
                Ok(parameter) => into.list.push(parameter),
                Err(lacks) => into.incomplete.push(lacks),
            }
        }
    }

    fn parameter(&self, at: VirtAddr, module: Option<&str>) -> Field<Parameter> {
        let fields = self.loader.load(at);
        let whole = printable(&self.kernel.memory().c_string(fields.name?, MOST_NAME)?);
        let (of, name) = match (module, whole.split_once('.')) {
            (Some(module), _) => (module.to_owned(), whole),
            (None, Some((of, name))) => (of.to_owned(), name.to_owned()),
            (None, None) => ("kernel".to_owned(), whole),
        };
        let operations = self.operations(fields.ops.clone()?);
        let data = fields.arg?;
        Ok(Parameter {
            at,
            module: of,
            name,
            built_in: module.is_none(),
            value: self.value(operations.as_deref(), data),
            operations,
            data,
        })
    }

    fn operations(&self, at: VirtAddr) -> Option<String> {
        let place = self.kernel.place(at)?;
        (place.offset == 0).then(|| place.symbol.name.to_owned())
    }

    fn value(&self, operations: Option<&str>, data: VirtAddr) -> Field<Setting> {
        match operations {
            Some("param_array_ops") => self.array(data),
            Some("param_ops_string") => {
                let text: Text = self.kernel.load(data);
                Setting::text(self.kernel, text.string?, text.maxlen?.into())
            }
            Some(operations) => self.scalar(operations, data),
            None => Err(Lacks::unavailable("its operations are not known")),
        }
    }

    fn scalar(&self, operations: &str, data: VirtAddr) -> Field<Setting> {
        let number = |bytes, signed| Setting::numbers(self.kernel, data, Integer { bytes, signed }, 0);
        if data.is_null() {
            return Err(Lacks::unavailable("its value is not kept"));
        }
        match operations {
            "param_ops_byte" => number(1, false),
            "param_ops_short" => number(2, true),
            "param_ops_ushort" => number(2, false),
            "param_ops_int" => number(4, true),
            "param_ops_uint" | "param_ops_hexint" => number(4, false),
            "param_ops_long" => number(8, true),
            "param_ops_ulong" | "param_ops_ullong" => number(8, false),
            "param_ops_bool" | "param_ops_bool_enable_only" | "param_ops_bint" => {
                Setting::flag(self.kernel, data)
            }
            "param_ops_invbool" => Ok(match Setting::flag(self.kernel, data)? {
                Setting::Flag(is_set) => Setting::Flag(!is_set),
                other => other,
            }),
            "param_ops_charp" => {
                let text = self.kernel.memory().pointer(data)?;
                match text.is_null() {
                    true => Ok(Setting::Text("(null)".to_owned())),
                    false => Setting::text(self.kernel, text, 1024),
                }
            }
            other => Err(Lacks::unavailable(format_args!("{other} computes it when it is asked"))),
        }
    }

    fn array(&self, at: VirtAddr) -> Field<Setting> {
        let array: Array = self.kernel.load(at);
        let (most, width, elements) = (array.max?, array.elemsize?, array.elem?);
        let count =
            array.num.ok().filter(|at| !at.is_null()).and_then(|at| self.kernel.memory().u32(at).ok());
        let operations = self.operations(array.ops?).unwrap_or_default();
        let mut texts = Vec::new();
        for index in 0..count.unwrap_or(most).min(most).min(1024) {
            let at = elements.add(u64::from(index).wrapping_mul(width.into()));
            texts.push(self.scalar(&operations, at)?.to_string());
        }
        Ok(Setting::Text(texts.join(",")))
    }
}
