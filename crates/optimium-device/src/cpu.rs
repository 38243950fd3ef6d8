//! What CPU this is.

use std::sync::OnceLock;

/// The CPU of this machine as text: vendor, family, model and stepping in numbers, and its brand. What is measured on a machine
/// with the same text holds on this one. Where the system does not tell, the name of the architecture.
pub fn cpu_model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| identify().unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}

#[cfg(target_arch = "x86_64")]
fn identify() -> Option<String> {
    use std::arch::x86_64::{__cpuid, CpuidResult};

    const EXTENDED: u32 = 0x8000_0000;
    let text = |registers: &[u32]| -> String {
        let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
        let text = String::from_utf8_lossy(&bytes);
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
    };
    let CpuidResult { ebx, ecx, edx, .. } = __cpuid(0);
    let version = __cpuid(1).eax;
    let base_family = version >> 8 & 0xf;
    let family = base_family + if base_family == 0xf { version >> 20 & 0xff } else { 0 };
    let model = version >> 4 & 0xf | (version >> 16 & 0xf) << 4;
    let brand = if __cpuid(EXTENDED).eax >= EXTENDED + 4 {
        let leaf = |leaf: u32| {
            let CpuidResult { eax, ebx, ecx, edx } = __cpuid(EXTENDED + leaf);
            [eax, ebx, ecx, edx]
        };
        text(&[leaf(2), leaf(3), leaf(4)].concat())
    } else {
        String::new()
    };
    Some(
        format!("{} {family}.{model}.{} {brand}", text(&[ebx, edx, ecx]), version & 0xf)
            .trim_end()
            .to_owned(),
    )
}

#[cfg(not(target_arch = "x86_64"))]
fn identify() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split(':').nth(1).map(|value| value.trim().to_owned())
    };
    let fields = ["CPU implementer", "CPU variant", "CPU part", "CPU revision", "model name"];
    let known: Vec<String> = fields.into_iter().filter_map(field).collect();
    (!known.is_empty()).then(|| known.join(" "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cpu_has_a_name_of_one_line() {
        let name = super::cpu_model();
        assert!(!name.is_empty() && !name.contains(['\n', '\0']), "{name:?}");
    }
}
