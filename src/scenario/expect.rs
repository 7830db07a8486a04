//! What must come out of a scenario: the `[expect]` table, and what of it can never be.

use std::{ops::Range, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use toml::Spanned;

use super::probe::ProbeSpec;
use crate::{
    classify::catalogue,
    lab::optional_duration,
    model::{Class, Confidence, Hop, Layer, Leg, Outcome, Route, Severity, Status},
};

/// What must come out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The verdict; of several probes the worst.
    #[schemars(with = "Status")]
    pub verdict: Spanned<Status>,
    /// The exit code of `check`; default: the one that belongs to the verdict.
    #[serde(default)]
    #[schemars(with = "Option<u8>")]
    pub exit_code: Option<Spanned<u8>>,
    /// Findings that must be there. No other finding of severity error may be, unless `allowed` has its code.
    #[serde(default)]
    #[schemars(with = "Vec<ExpectedFinding>")]
    pub findings: Vec<Spanned<ExpectedFinding>>,
    /// Findings that must not be there, whatever their severity.
    #[serde(default)]
    #[schemars(with = "Vec<ExpectedFinding>")]
    pub absent: Vec<Spanned<ExpectedFinding>>,
    /// Codes that may be there.
    #[serde(default)]
    #[schemars(schema_with = "codes_schema")]
    pub allowed: Vec<Spanned<String>>,
    /// What consumers must be predicted to report.
    #[serde(default)]
    pub predictions: Vec<ExpectedPrediction>,
    /// How long layers may take.
    #[serde(default)]
    #[schemars(with = "Vec<ExpectedTime>")]
    pub times: Vec<Spanned<ExpectedTime>>,
}

/// A finding, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFinding {
    /// Its code.
    #[schemars(schema_with = "code_schema")]
    pub code: String,
    /// Between whom.
    #[serde(default)]
    pub hop: Option<Hop>,
    /// How sure it must be at least.
    #[serde(default)]
    pub confidence: Option<Confidence>,
    /// How bad.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Over which route.
    #[serde(default)]
    pub route: Option<Route>,
    /// A target that it must name, `host:port`.
    #[serde(default)]
    pub target: Option<String>,
    /// How many attempts showed it.
    #[serde(default)]
    pub failed: Option<u32>,
    /// Of how many attempts.
    #[serde(default)]
    pub tried: Option<u32>,
    /// In the probe of this name.
    #[serde(default)]
    pub probe: Option<String>,
}

/// A prediction, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedPrediction {
    /// Whose behaviour.
    pub consumer: String,
    /// For which snapshot method.
    #[serde(default)]
    pub method: Option<String>,
    /// How it ends.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// What that means for people.
    #[serde(default)]
    pub class: Option<Class>,
    /// The status file's code.
    #[serde(default)]
    pub extension_code: Option<i32>,
    /// The health code.
    #[serde(default)]
    pub extension_error_code: Option<i32>,
    /// What the portal shows.
    #[serde(default)]
    pub portal_error: Option<String>,
}

/// Bounds on every step of one kind. At least one such step must have succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedTime {
    /// Which layer.
    pub layer: Layer,
    /// With whom; default either.
    #[serde(default)]
    pub leg: Option<Leg>,
    /// Over which route; default either.
    #[serde(default)]
    pub route: Option<Route>,
    /// The shortest that is right.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub at_least: Option<Duration>,
    /// The longest that is right.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub at_most: Option<Duration>,
}

/// One of the codes, so that editors offer them.
fn code_schema(_: &mut SchemaGenerator) -> Schema {
    let codes: Vec<_> = catalogue::entries().iter().map(|entry| entry.code.0).collect();
    json_schema!({ "type": "string", "enum": codes })
}

fn codes_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": code_schema(generator) })
}

type Impossible = (Range<usize>, String);

impl Expect {
    /// The exit code that must come out.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code.as_ref().map_or_else(|| self.verdict.get_ref().exit_code(), |code| *code.get_ref())
    }

    /// Finds what can never come out of these probes.
    ///
    /// # Errors
    /// Where it stands, and why.
    pub(super) fn check(&self, probes: &[ProbeSpec]) -> Result<(), Impossible> {
        let verdict = *self.verdict.get_ref();
        if let Some(code) = self.exit_code.as_ref().filter(|code| *code.get_ref() != verdict.exit_code()) {
            let message = format!("impossible: with this verdict `check` exits {}", verdict.exit_code());
            return Err((code.span(), message));
        }
        for (list, wanted) in [("findings", &self.findings), ("absent", &self.absent)] {
            for finding in wanted {
                let fail = |message: String| Err((finding.span(), format!("expect.{list}: {message}")));
                if let Err(message) = finding.get_ref().check(probes) {
                    return fail(message);
                }
            }
        }
        for code in &self.allowed {
            known(code.get_ref()).map_err(|message| (code.span(), format!("expect.allowed: {message}")))?;
        }
        for finding in &self.findings {
            if self.absent.iter().any(|absent| absent.get_ref() == finding.get_ref()) {
                return Err((finding.span(), "impossible: the same finding is expected and must be absent".into()));
            }
            // The catalogue's severity is only the usual one, so it proves nothing.
            let stated = finding.get_ref().severity;
            if verdict == Status::Clear && stated.is_some_and(|severity| severity < Severity::Info) {
                return Err((
                    finding.span(),
                    "impossible: a verdict is not `clear` beside a warning or an error".into(),
                ));
            }
        }
        for bound in &self.times {
            bound.get_ref().check(probes).map_err(|message| (bound.span(), format!("expect.times: {message}")))?;
        }
        Ok(())
    }
}

fn known(code: &str) -> Result<(), String> {
    if catalogue::find(code).is_some() {
        return Ok(());
    }
    let layer = code.split('.').next().unwrap_or_default();
    let near: Vec<_> = catalogue::entries()
        .iter()
        .map(|entry| entry.code.0)
        .filter(|known| known.split('.').next() == Some(layer))
        .collect();
    let allowed = if near.is_empty() {
        "`snapreach explain` lists all codes".to_owned()
    } else {
        format!("of `{layer}` there are: {}", near.join(", "))
    };
    Err(format!("there is no finding code `{code}`; {allowed}"))
}

fn routed(route: Option<Route>, probes: &[ProbeSpec]) -> Result<(), String> {
    match route.filter(|route| probes.iter().all(|probe| !probe.routes.contains(route))) {
        Some(route) => Err(format!("impossible: no probe takes the route `{route}`")),
        None => Ok(()),
    }
}

impl ExpectedFinding {
    fn check(&self, probes: &[ProbeSpec]) -> Result<(), String> {
        known(&self.code)?;
        if let Some(name) = &self.probe
            && !probes.iter().any(|probe| probe.name.as_ref() == Some(name))
        {
            return Err(format!("no probe has the name `{name}`"));
        }
        routed(self.route, probes)?;
        if let (Some(failed), Some(tried)) = (self.failed, self.tried)
            && failed > tried
        {
            return Err(format!("impossible: {failed} of {tried} attempts"));
        }
        if let Some(target) = &self.target {
            let mut targets = probes.iter().filter_map(|probe| probe.resolve().ok()).flatten();
            // What belongs to the machine (a name server, the wire server) is no target of a probe.
            let about_targets = !["config.", "host.", "local."].iter().any(|layer| self.code.starts_with(layer));
            if about_targets && !targets.any(|known| known.authority() == *target) {
                return Err(format!("impossible: no probe has the target `{target}`; targets are written host:port"));
            }
        }
        Ok(())
    }
}

impl ExpectedTime {
    fn check(&self, probes: &[ProbeSpec]) -> Result<(), String> {
        routed(self.route, probes)?;
        match (self.at_least, self.at_most) {
            (None, None) => return Err("give `at_least`, `at_most` or both".into()),
            (Some(least), Some(most)) if least > most => {
                return Err(format!("impossible: at least {least:?} and at most {most:?}"));
            }
            _ => {}
        }
        let proxied = probes.iter().any(|probe| probe.routes.contains(&Route::Proxy));
        if !proxied && (self.layer == Layer::Tunnel || self.leg == Some(Leg::Proxy)) {
            return Err("impossible: no probe goes through a proxy".into());
        }
        Ok(())
    }
}
