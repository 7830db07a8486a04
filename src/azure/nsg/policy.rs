//! All files of one machine together: groups, routes and service tags.

use serde_json::Value;

use super::{
    input::{self, At, NsgError},
    parse,
    routes::{self, Routes},
    rule::{Attached, Group},
    tags::ServiceTags,
    template,
};

/// Groups that are read; a machine's interface has two at most.
const MAX_GROUPS: usize = 64;

const ALLOWED: &str = "expected the output of `az network nsg show`, `az network nsg rule list`, \
    `az network nic list-effective-nsg`, `az network nic show-effective-route-table`, \
    `az network watcher show-security-group-view` or `az network list-service-tags`, a template, or a published list \
    of service tags";

/// What the files say about one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// In the order in which they are asked.
    pub(super) groups: Vec<Group>,
    pub(super) routes: Option<Routes>,
    pub(super) tags: Option<ServiceTags>,
    sources: Vec<String>,
    notes: Vec<String>,
}

/// What one file, or a part of it, holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) groups: Vec<Group>,
    pub(super) routes: Option<Routes>,
    pub(super) tags: Option<ServiceTags>,
    pub(super) notes: Vec<String>,
}

impl Found {
    pub(super) fn add_routes(&mut self, routes: Routes) {
        self.routes.get_or_insert_with(Routes::default).append(routes);
    }
}

impl Policy {
    /// Reads files, `(name, content)`, each of any kind: groups in all dialects of the CLI, the REST API and templates,
    /// effective rules, routes, service tags. Which one it is shows in the content.
    ///
    /// Groups are asked in this order: the network interface's, those of which no file says where they are attached,
    /// the subnet's; among equals in the order given.
    ///
    /// # Errors
    /// When a file is malformed, of another kind, or too large.
    pub fn read(files: &[(&str, &[u8])]) -> Result<Self, NsgError> {
        let mut policy = Self::default();
        for (name, bytes) in files {
            policy.add(name, bytes)?;
        }
        let unsaid = policy.groups.iter().filter(|group| group.attached == Attached::Unsaid).count();
        if unsaid > 1 {
            policy.notes.push(format!(
                "where {unsaid} of the groups are attached is not in the files: each of them must allow, asked in the \
                 order given"
            ));
        }
        policy.groups.sort_by_key(|group| group.attached);
        Ok(policy)
    }

    fn add(&mut self, file: &str, bytes: &[u8]) -> Result<(), NsgError> {
        let text = input::decode(file, bytes)?;
        let found = find(file, &text)?;
        let mut what: Vec<String> = found
            .groups
            .iter()
            .map(|group| {
                let attached = group.attached.as_str();
                let on = if attached.is_empty() { String::new() } else { format!(" of the {attached}") };
                format!("group {}{on} ({})", group.name, counted(group.rules.len(), "rule"))
            })
            .collect();
        what.extend(found.routes.as_ref().map(|routes| counted(routes.len(), "route")));
        what.extend(found.tags.as_ref().map(ToString::to_string));
        self.sources.push(format!("{file}: {}", what.join(", ")));
        self.groups.extend(found.groups);
        if self.groups.len() > MAX_GROUPS {
            return Err(NsgError::new(
                file,
                input::Place::Whole,
                format!("more than {MAX_GROUPS} groups: give those of one machine"),
            ));
        }
        if let Some(routes) = found.routes {
            self.routes.get_or_insert_with(Routes::default).append(routes);
        }
        if let Some(tags) = found.tags {
            if self.tags.is_some() {
                return Err(NsgError::new(
                    file,
                    input::Place::Whole,
                    "this is the second list of service tags: give one",
                ));
            }
            if !tags.by_service {
                self.notes
                    .push(format!("{file}: this retired list knows regions alone, so tags of services stay undecided"));
            }
            self.tags = Some(tags);
        }
        self.notes.extend(found.notes);
        Ok(())
    }

    /// The files that were read, with what each held.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// What was added, left out, or cannot be evaluated, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether a file holds a group.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether a file holds routes.
    #[must_use]
    pub fn has_routes(&self) -> bool {
        self.routes.is_some()
    }

    /// Whether a file holds service tags.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.tags.is_some()
    }

    /// Whether there is a group or a route, which could decide anything.
    #[must_use]
    pub fn decides(&self) -> bool {
        !self.groups.is_empty() || self.routes.is_some()
    }
}

/// Tells the kind of a file by its content, and reads it.
fn find(file: &str, text: &str) -> Result<Found, NsgError> {
    let start = text.trim_start();
    if start.starts_with('<') {
        return Ok(Found { tags: Some(ServiceTags::parse_xml(file, text)?), ..Found::default() });
    }
    if is_tag_list(text) {
        return Ok(Found { tags: Some(ServiceTags::parse_json(file, text)?), ..Found::default() });
    }
    let document = input::json(file, text)?;
    let top = At::top(file, &document);
    let name = stem(file);
    let mut found = Found::default();
    if top.is_array() {
        list(&top, name, &mut found)?;
    } else if top.has("resources") {
        template::read(&top, name, &mut found)?;
        if found.groups.is_empty() && found.routes.is_none() {
            return Err(top.error("this template has neither a network security group nor a route table"));
        }
    } else if let Some(value) = top.get("value").filter(At::is_array) {
        list(&value, name, &mut found)?;
    } else {
        object(&top, name, &mut found)?;
    }
    Ok(found)
}

/// Whether this is a list of service tags, told without reading it into memory.
fn is_tag_list(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Keys {
        #[serde(rename = "values")]
        _values: serde::de::IgnoredAny,
    }
    // A struct can be read from an array, too.
    text.trim_start().starts_with('{')
        && (serde_json::from_str::<Keys>(text).is_ok()
            // A list that is cut short is malformed, and still a list.
            || text.find("\"values\"").is_some_and(|at| at < 4096) && text.contains("\"addressPrefixes\""))
}

/// A list of rules, groups, effective groups or routes: the first element tells.
fn list(list: &At<'_>, name: &str, found: &mut Found) -> Result<(), NsgError> {
    let Some(first) = list.elements().next() else {
        found.groups.push(parse::rule_list(list, name, &mut found.notes)?);
        return Ok(());
    };
    if routes::is_route(&first) {
        let routes = Routes::read(list, &mut found.notes)?;
        found.add_routes(routes);
    } else if is_rule(&first) {
        found.groups.push(parse::rule_list(list, name, &mut found.notes)?);
    } else {
        for element in list.elements() {
            object(&element, name, found)?;
        }
    }
    Ok(())
}

fn is_rule(at: &At<'_>) -> bool {
    let inner = at.get("properties");
    let content = inner.as_ref().unwrap_or(at);
    content.has("priority") && content.has("access")
}

/// One group, in whichever form, one rule, or one route table.
fn object(at: &At<'_>, name: &str, found: &mut Found) -> Result<(), NsgError> {
    let inner = at.get("properties");
    let content = inner.as_ref().unwrap_or(at);
    if at.has("effectiveSecurityRules") {
        found.groups.push(parse::effective(at, name, &mut found.notes)?);
    } else if at.has("networkInterfaces") && !content.has("securityRules") && !content.has("defaultSecurityRules") {
        found.groups.extend(parse::watcher(at, name, &mut found.notes)?);
    } else if content.has("securityRules") || content.has("defaultSecurityRules") {
        found.groups.push(parse::group(at, name, &mut found.notes)?);
    } else if is_rule(at) {
        let value = Value::Array(vec![at.value().clone()]);
        found.groups.push(parse::rule_list(&At::top(at.file(), &value), name, &mut found.notes)?);
    } else if let Some(routes) = content.get("routes").filter(At::is_array) {
        let routes = Routes::read(&routes, &mut found.notes)?;
        found.add_routes(routes);
    } else {
        return Err(at.error(ALLOWED));
    }
    Ok(())
}

/// The file's name without folders and extension, for a group that has no name of its own.
fn stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// A number of things.
fn counted(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
