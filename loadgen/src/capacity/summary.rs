//! What `ringload plan` shows at its end.

use std::fmt::Write as _;

use super::file::PlanFile;
use super::model::Interval;
use super::predict::counted;

/// The costs, and how far they can be trusted.
pub fn summary(file: &PlanFile) -> Result<String, String> {
    let model = file.model()?;
    let mut text = format!(
        "{} runs in {:.0} s, {} void; the work is done by {}\n",
        file.runs.len() + file.held_out.len(),
        file.took_s,
        file.void,
        counted(file.threads)
    );
    let [idle, publication, delivery, acknowledgement, kib, wakeup] = model.intervals();
    let _ = writeln!(text, "idle             {:.4} cores", idle.value);
    for (name, cost) in [
        ("publication", publication),
        ("delivery", delivery),
        ("acknowledgement", acknowledgement),
        ("KiB of payload", kib),
        ("wake-up", wakeup),
    ] {
        let _ = writeln!(text, "{name:16} {}", micros(cost));
    }
    let kib = |slope: f64| slope / 1024.0;
    match (file.memory, file.kernel_memory) {
        (Some(broker), kernel) => {
            let kernel = kernel.map_or(0.0, |slope| slope.slope);
            let _ = writeln!(
                text,
                "connection       {:.1} KiB in the broker, {:.1} KiB in the kernel",
                kib(broker.slope),
                kib(kernel)
            );
        }
        (None, _) => text.push_str("connection       the broker's memory did not grow with them\n"),
    }
    if let Some(connect) = file.connect {
        let _ = writeln!(text, "connecting       {:.0} us", connect * 1e6);
    }
    for run in &file.held_out {
        let predicted = run.predicted;
        let _ = writeln!(
            text,
            "held out         {}: {:.3} cores predicted ({:.3}-{:.3}), {:.3} measured, {:+.0} %",
            run.name,
            predicted.value,
            predicted.low,
            predicted.high,
            run.measured,
            run.error() * 100.0
        );
    }
    let _ = writeln!(
        text,
        "this machine repeats itself within {:.0} %, so does what is predicted from it",
        file.repeats_within() * 100.0
    );
    if let Some(doubt) = file.doubt() {
        let _ = writeln!(
            text,
            "NOT GOOD ENOUGH HERE: {doubt}; use `ringload find-max` on your scenario"
        );
    }
    Ok(text)
}

fn micros(cost: Interval) -> String {
    format!(
        "{:.2} us (95 %: {:.2}-{:.2})",
        cost.value * 1e6,
        cost.low * 1e6,
        cost.high * 1e6
    )
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;

    #[test]
    fn costs_and_doubts_are_shown() {
        let mut file = sample(2, 5e-6);
        let text = summary(&file).unwrap();
        for part in [
            "15 runs in 200 s, 1 void; the work is done by 2 threads",
            "delivery         5.00 us (95 %: ",
            "connection       2.0 KiB in the broker, 0.0 KiB in the kernel",
            "connecting       30 us",
            "held out         mixed: 1.040 cores predicted (1.000-1.100), 1.000 measured, +4 %",
            "repeats itself within 4 %",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("NOT GOOD"), "{text}");
        file.held_out[0].measured = 3.0;
        assert!(
            summary(&file)
                .unwrap()
                .contains("NOT GOOD ENOUGH HERE: `mixed` was -65 % off")
        );
    }
}
