//! The text of `netsh winhttp show proxy`, in any language of Windows.

use super::{registry::Malformed, settings::Settings};

/// Lines above the one that begins the answer: a prompt, and what a shell prints.
const MAX_ABOVE: usize = 20;

/// Whether a text holds the answer.
pub(super) fn is_netsh(text: &str) -> bool {
    heading(text).is_some()
}

/// What the text says. Words differ by language, the form does not: a heading that names `WinHTTP` and ends with a colon;
/// below it either a sentence (direct access), or the proxy and then the exceptions, each behind a label and a colon.
pub(super) fn settings(text: &str) -> Result<Settings, Malformed> {
    let heading = heading(text).unwrap_or(0);
    let below = text.lines().enumerate().skip(heading + 1).map(|(at, line)| (at + 1, line.trim()));
    let mut below = below.skip_while(|(_, line)| line.is_empty()).take_while(|(_, line)| !line.is_empty());
    let empty = Malformed { line: heading + 1, problem: "nothing stands below the heading; give the whole output" };
    let (line, first) = below.next().ok_or(empty)?;
    let Some(proxy) = labelled(first) else { return Ok(Settings::default()) };
    if proxy.is_empty() {
        return Err(Malformed { line, problem: "no proxy stands behind the colon; give the whole output" });
    }
    let bypass = below.find_map(|(_, line)| labelled(line)).unwrap_or_default();
    // "(none)", translated.
    let bypass = if bypass.starts_with('(') { "" } else { bypass };
    Ok(Settings { proxy: proxy.to_owned(), bypass: bypass.to_owned(), ..Settings::default() })
}

fn heading(text: &str) -> Option<usize> {
    text.lines().take(MAX_ABOVE).position(|line| {
        let line = line.trim_end();
        line.ends_with([':', '：']) && line.to_ascii_lowercase().contains("winhttp")
    })
}

/// What stands behind the first colon, also behind the wide one of Chinese and Japanese.
fn labelled(line: &str) -> Option<&str> {
    let (_, value) = line.split_once([':', '：'])?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_proxy_is_found_in_every_language() {
        for text in [
            "\r\nCurrent WinHTTP proxy settings:\r\n\r\n    Proxy Server(s) :  10.0.0.5:3128\r\n    Bypass List     :  *.corp;<local>\r\n\r\n",
            "C:\\>netsh winhttp show proxy\n\nAktuelle WinHTTP-Proxyeinstellungen:\n\n    Proxyserver :  10.0.0.5:3128\n    Umgehungsliste     :  *.corp;<local>\n\nC:\\>",
            "Impostazioni proxy WinHTTP correnti:\n\n    Server proxy :  10.0.0.5:3128\n    Elenco di esclusioni :  *.corp;<local>\n",
            "Paramètres du proxy WinHTTP actuels\u{a0}:\n\n    Serveur(s) proxy\u{a0}: 10.0.0.5:3128\n    Liste de contournement\u{a0}: *.corp;<local>\n",
            "当前的 WinHTTP 代理服务器设置：\n\n    代理服务器：10.0.0.5:3128\n    绕过列表：*.corp;<local>\n",
        ] {
            assert!(is_netsh(text), "{text}");
            let got = settings(text).unwrap();
            assert_eq!((got.proxy.as_str(), got.bypass.as_str()), ("10.0.0.5:3128", "*.corp;<local>"), "{text}");
        }
    }

    #[test]
    fn direct_access_is_a_sentence() {
        for text in [
            "\nCurrent WinHTTP proxy settings:\n\n    Direct access (no proxy server).\n\n",
            "Aktuelle WinHTTP-Proxyeinstellungen:\n\n    Direktzugriff (kein Proxyserver).\n",
        ] {
            assert_eq!(settings(text).unwrap(), Settings::default());
        }
        let none = "Current WinHTTP proxy settings:\n\n    Proxy Server(s) :  http=a:1;https=b:2\n    Bypass List     :  (none)\n";
        let got = settings(none).unwrap();
        assert_eq!((got.proxy.as_str(), got.bypass.as_str()), ("http=a:1;https=b:2", ""));
    }

    #[test]
    fn half_an_answer_is_refused_with_its_line() {
        assert_eq!(settings("\nCurrent WinHTTP proxy settings:\n\n").unwrap_err().line, 2);
        assert_eq!(settings("WinHTTP:\n\n  Proxy Server(s) :\n").unwrap_err().line, 3);
        assert!(!is_netsh("The WinHTTP service is running.\n") && !is_netsh(""));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(WinHTTP|:|：|\n|\\(|[a-zä ]){0,60}") {
            if is_netsh(&text) {
                let _ = settings(&text);
            }
        }
    }
}
