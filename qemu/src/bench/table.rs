//! The figures on a terminal.

use std::fmt::Write as _;

use super::figures::Figures;

/// Figures to compare with.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Of what or of when they are.
    pub name: &'static str,
    /// The figures.
    pub figures: Vec<Figures>,
}

/// Tables of `figures`; with others `beside` them, the SPMC's share there and what it is here in percent of that.
#[must_use]
pub fn show(figures: &[Figures], beside: Option<&Beside>) -> String {
    let widths = [longest("operation", figures.iter().map(|f| &*f.operation)), longest("instance", figures.iter().map(|f| &*f.instance))];
    let is_of_cores = |f: &&Figures| f.handovers.is_some() || f.throughput_percent.is_some();
    let (cores, counted): (Vec<&Figures>, Vec<&Figures>) = figures.iter().partition(is_of_cores);
    let mut text = if counted.is_empty() { String::new() } else { show_counted(&counted, widths, beside) };
    if !cores.is_empty() {
        text += &row_of_cores(widths, "operation", "instance", ["spmc", "more than alone", "retries", "hand-overs", "throughput"].map(str::to_owned));
    }
    for f in cores {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let spmc = number(f.handovers.map(|_| f.spmc));
        let throughput = f.throughput_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%"));
        text += &row_of_cores(widths, &f.operation, &f.instance, [spmc, number(f.beyond_one_core), number(f.retries), number(f.handovers), throughput]);
    }
    text
}

fn row_of_cores([first, second]: [usize; 2], operation: &str, instance: &str, [spmc, more, retries, handovers, throughput]: [String; 5]) -> String {
    format!("{operation:<first$} {instance:<second$} {spmc:>9} {more:>15} {retries:>9} {handovers:>10} {throughput:>10}\n")
}

fn show_counted(figures: &[&Figures], [first, second]: [usize; 2], beside: Option<&Beside>) -> String {
    let mut text = format!(
        "{:<first$} {:<second$} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
        "operation", "instance", "spmc", "el3", "partition", "normal", "exceptions", "total", "spmc cold"
    );
    if let Some(beside) = beside {
        let _ = write!(text, " {:>14} {:>7}", format!("spmc, {}", beside.name), "ratio");
    }
    text.push('\n');
    for f in figures {
        let _ = write!(
            text,
            "{:<first$} {:<second$} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            f.operation, f.instance, f.spmc, f.el3, f.partition, f.normal, f.exceptions, f.total, f.spmc_cold
        );
        if let Some(other) = beside.and_then(|beside| beside.figures.iter().find(|e| e.is_like(f))) {
            let _ = write!(text, " {:>14} {:>7}", other.spmc, percent(f.spmc, other.spmc));
        }
        text.push('\n');
    }
    text
}

/// Width of a column with these texts and their head.
fn longest<'a>(head: &str, texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(str::len).fold(head.len(), usize::max)
}

fn percent(here: u64, there: u64) -> String {
    if there == 0 { "-".into() } else { format!("{:.1}%", here as f64 * 100.0 / there as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_stand_beside_the_same_operation() {
        let one = |instance: &str, spmc| Figures { operation: "o".into(), instance: instance.into(), spmc, ..Figures::default() };
        let text = show(&[one("a", 50), one("b", 7)], Some(&Beside { name: "then", figures: vec![one("a", 200)] }));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("spmc, then   ratio"), "{text}");
        assert!(lines[1].ends_with("200   25.0%"), "{text}");
        assert!(!lines[2].contains('%'), "{text}");
        assert!(!show(&[one("a", 50)], None).contains(" ratio"));
    }
}
