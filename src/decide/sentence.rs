//! Scores in sentences for people: short, and never rounded across the threshold they are held to.

/// "particle 0.97, at least 0.50".
pub(crate) fn reached(label: &str, score: f64, threshold: f64) -> String {
    let (score, threshold) = digits(score, threshold);
    format!("{label} {score}, at least {threshold}")
}

/// "good 0.90 below 0.981".
pub(crate) fn missed(label: &str, score: f64, threshold: f64) -> String {
    let (score, threshold) = digits(score, threshold);
    format!("{label} {score} below {threshold}")
}

/// Three digits, or as many as it takes for the printed numbers to stand as the real ones do.
fn digits(score: f64, threshold: f64) -> (String, String) {
    let holds = |digits: usize| {
        let printed = |number: f64| format!("{number:.digits$}").parse::<f64>().unwrap_or(number);
        (score >= threshold) == (printed(score) >= printed(threshold))
    };
    let digits = (3..12).find(|&it| holds(it)).unwrap_or(12);
    (trimmed(score, digits), trimmed(threshold, digits))
}

/// Without trailing zeros beyond the second digit.
fn trimmed(number: f64, digits: usize) -> String {
    let mut text = format!("{number:.digits$}");
    while text.ends_with('0') && text.len() > "0.00".len() {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_but_never_cross_their_threshold() {
        assert_eq!(reached("particle", 0.97, 0.5), "particle 0.97, at least 0.50");
        assert_eq!(reached("good", 0.995, 0.98 + 0.001), "good 0.995, at least 0.981");
        assert_eq!(missed("good", 0.9, 0.981), "good 0.90 below 0.981");
        assert_eq!(missed("good", 0.980_96, 0.981), "good 0.98096 below 0.981");
        assert_eq!(reached("good", 1.0, 1.0), "good 1.00, at least 1.00");
    }
}
