//! Data that stops on its way.

use super::{
    facts::Facts,
    observe::{capture, who_answers},
    products::proxy_log,
    remedy,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    let mut list = match code {
        codes::TRANSFER_REFUSED => vec![
            remedy(
                "Name a blob that may be read, with its signature; an upload needs one that allows writing",
                ["snapreach bench download 'https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB?SIGNATURE'"],
            ),
            who_answers(f),
        ],
        codes::TRANSFER_CORRUPTED => vec![remedy(
            "Compare over another path; if only this one changes data, take the device that inspects it out of the way",
            [format!("snapreach bench download --verify {}", f.target)],
        )],
        _ => Vec::new(),
    };
    if f.tunnelled {
        list.push(proxy_log(f, "Read the proxy's log at that second, and its limits of time and size"));
    }
    list.push(capture(f));
    list
}
