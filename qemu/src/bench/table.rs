//! The figures on a terminal.

use std::fmt::Write as _;

use super::figures::Figures;

/// A table of `figures`; with `earlier` ones, what the SPMC's share was then and what it is now in percent of that.
#[must_use]
pub fn show(figures: &[Figures], earlier: Option<&[Figures]>) -> String {
    let mut text = format!(
        "{:<30} {:<36} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
        "operation", "instance", "spmc", "el3", "partition", "normal", "exceptions", "total", "spmc cold"
    );
    if earlier.is_some() {
        let _ = write!(text, " {:>10} {:>7}", "spmc then", "now");
    }
    text.push('\n');
    for f in figures {
        let _ = write!(
            text,
            "{:<30} {:<36} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            f.operation, f.instance, f.spmc, f.el3, f.partition, f.normal, f.exceptions, f.total, f.spmc_cold
        );
        if let Some(then) = earlier.and_then(|all| all.iter().find(|e| e.is_like(f))) {
            let _ = write!(text, " {:>10} {:>7}", then.spmc, percent(f.spmc, then.spmc));
        }
        text.push('\n');
    }
    text
}

fn percent(now: u64, then: u64) -> String {
    if then == 0 { "-".into() } else { format!("{:.1}%", now as f64 * 100.0 / then as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_figures_stand_beside_their_operation() {
        let one = |instance: &str, spmc| Figures { operation: "o".into(), instance: instance.into(), spmc, ..Figures::default() };
        let text = show(&[one("a", 50), one("b", 7)], Some(&[one("a", 200)]));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("200   25.0%"), "{text}");
        assert!(!lines[2].contains('%'), "{text}");
        assert!(!show(&[one("a", 50)], None).contains("then"));
    }
}
