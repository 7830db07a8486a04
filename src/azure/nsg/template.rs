//! Groups and route tables in deployment templates (`resources`), with the rules that are resources of their own.

use super::{
    input::{At, NsgError},
    parse::{self, expression},
    policy::Found,
    routes::{self, Routes},
    rule::{Group, Rule},
};

const GROUP: &str = "Microsoft.Network/networkSecurityGroups";
const RULE: &str = "Microsoft.Network/networkSecurityGroups/securityRules";
const ROUTES: &str = "Microsoft.Network/routeTables";
const ROUTE: &str = "Microsoft.Network/routeTables/routes";
const DEPLOYMENT: &str = "Microsoft.Resources/deployments";

/// Reads a template.
pub(super) fn read(top: &At<'_>, file_name: &str, found: &mut Found) -> Result<(), NsgError> {
    let mut rules = Vec::new();
    let mut groups = Vec::new();
    let mut routes = None;
    let Some(resources) = top.get("resources") else { return Ok(()) };
    for resource in resources.elements() {
        let kind = resource.get("type").and_then(|kind| kind.text().map(str::to_owned)).unwrap_or_default();
        let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
        let name = resource.get("name").and_then(|name| name.text().map(str::to_owned)).unwrap_or_default();
        if resource.has("copy") && (is(GROUP) || is(RULE) || is(ROUTES) || is(ROUTE)) {
            found
                .notes
                .push(format!("{}: `copy` of {name} is not carried out: only its first form is read", top.file()));
        }
        if is(GROUP) {
            let mut group = parse::unfinished(&resource, file_name, &mut found.notes)?;
            if let Some(children) = resource.get("resources") {
                for child in children.elements() {
                    let kind = child.get("type").and_then(|kind| kind.text().map(str::to_owned)).unwrap_or_default();
                    if kind.eq_ignore_ascii_case("securityRules") || kind.eq_ignore_ascii_case(RULE) {
                        parse::push(&mut group, parse::rule(&child, false, &mut found.notes)?, &child)?;
                    }
                }
            }
            groups.push(group);
        } else if is(RULE) {
            rules.push((name, parse::rule(&resource, false, &mut found.notes)?));
        } else if is(ROUTES) {
            let inner = resource.get("properties");
            if let Some(list) = inner.as_ref().and_then(|inner| inner.get("routes")) {
                if routes::is_computed(&list) {
                    found.notes.push(format!("{}: the routes of {name} are computed, and left out", top.file()));
                } else {
                    routes.get_or_insert_with(Routes::default).append(Routes::read(&list, &mut found.notes)?);
                }
            }
        } else if is(DEPLOYMENT) {
            let inner = resource.get("properties");
            if let Some(template) = inner.as_ref().and_then(|inner| inner.get("template")) {
                read(&template, file_name, found)?;
            }
        }
    }
    for (name, rule) in rules {
        assign(&name, rule, &mut groups, file_name, &resources, &mut found.notes)?;
    }
    for mut group in groups {
        parse::finish(&mut group, &resources, &mut found.notes)?;
        found.groups.push(group);
    }
    if let Some(routes) = routes {
        found.add_routes(routes);
    }
    Ok(())
}

/// Puts a rule that is a resource of its own, `GROUP/RULE`, into its group.
fn assign(
    name: &str,
    rule: Rule,
    groups: &mut Vec<Group>,
    file_name: &str,
    at: &At<'_>,
    notes: &mut Vec<String>,
) -> Result<(), NsgError> {
    let is_expression = expression(&name.into()).is_some();
    let parent = if is_expression { name } else { name.rsplit_once('/').map_or(name, |(group, _)| group) };
    let belongs = |group: &Group| {
        if is_expression {
            // `[concat(parameters('group'), '/rule')]` and `[parameters('group')]`, or the literal in quotes.
            let inner = group.name.trim_start_matches('[').trim_end_matches(']');
            parent.contains(inner)
        } else {
            group.name.eq_ignore_ascii_case(parent)
        }
    };
    if groups.is_empty() {
        // The group itself is deployed elsewhere.
        groups.push(Group {
            name: if is_expression { file_name } else { parent }.to_owned(),
            resource_group: None,
            attached: super::rule::Attached::Unsaid,
            rules: Vec::new(),
        });
    }
    let index = groups.iter().position(belongs).or((groups.len() == 1).then_some(0));
    if let Some(index) = index {
        return parse::push(&mut groups[index], rule, at);
    }
    notes.push(format!("{}: which group has the rule {name} cannot be told offline", at.file()));
    groups.iter_mut().try_for_each(|group| parse::push(group, Rule { direction: None, ..rule.clone() }, at))
}
