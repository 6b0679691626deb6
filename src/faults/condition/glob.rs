//! Globs over keys, buckets and paths, as S3's policies have them: `*` is any run of characters,
//! `/` among them, and `?` is any one. Nothing is escaped.
//!
//! - `GLOB-1` it takes at most as many steps as pattern times text: only the last `*` is gone back
//!   to, since what an earlier one could take, the last one can take as well.

/// Whether all of the text is of the pattern.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut last_star = None; // what follows it, and the text from where that was tried last
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = here;
                last_star = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after, tried)) = &mut last_star else { return false };
                if tried.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), tried.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition, exponential.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some((wanted, rest)) => text
                .split_first()
                .is_some_and(|(c, text)| (*wanted == '?' || wanted == c) && naive(rest, text)),
        }
    }

    #[test]
    fn stars_take_runs_with_slashes_and_question_marks_one_character() {
        let rows = [
            ("logs/*", "logs/2026/11/a.json", true),
            ("logs/*.json", "logs/2026/11/a.json", true),
            ("logs/*.json", "logs/2026/11/a.jsonl", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "é", true), // one character, not one byte
            ("?", "", false),
            ("a?c*", "abc", true),
            ("[a-z]", "b", false), // nothing but * and ? is special
            ("**a**", "a", true),
        ];
        for (pattern, text, right) in rows {
            assert_eq!(glob(pattern, text), right, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_does_not_blow_up() {
        // a matcher that goes back to each star would take 1000 over 100 steps, for ever
        let pattern = "*a".repeat(100) + "b";
        assert!(!glob(&pattern, &"a".repeat(1000)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab/é*?]{0,8}", text in "[ab/é]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }
}
