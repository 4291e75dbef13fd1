//! `pulpcov fleet inventory`: what pulpcov reads, in the shape of `ansible-inventory`.

use anyhow::Result;
use serde_json::Value;

use crate::command::args::InventoryArgs;
use crate::exit::{Exit, usage};
use crate::fleet::targets::{read_any_inventory, without_hosts};
use crate::inventory::ALL;
use crate::inventory::model::list;
use crate::output::terminal;

/// Show the inventory as pulpcov reads it
///
/// Variables are shown as they stand: templates are not rendered, vaults stay shut.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "shape", multiple = false, args = ["list", "graph", "host"])]
pub(crate) struct Args {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Show groups, hosts and variables as JSON (the default)
    #[arg(long)]
    list: bool,
    /// Show the tree of a group
    #[arg(long, value_name = "GROUP", num_args = 0..=1, default_missing_value = ALL)]
    graph: Option<String>,
    /// Show the variables of a host as JSON
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let request = args.inventory.request()?;
    let (inventory, selection) = read_any_inventory(&request, &args.inventory.limit)?;
    for warning in inventory.warnings.iter().chain(&selection.warnings) {
        terminal::say(&format!("warning: {}", crate::output::terminal::printable(warning)));
    }
    if let Some(empty) = without_hosts(&inventory, &request) {
        terminal::say(&format!("warning: {}", crate::output::terminal::printable(&empty)));
    }
    let text = if let Some(group) = &args.graph {
        list::graph(&inventory, group).ok_or_else(|| usage(anyhow::anyhow!("--graph: no group {group:?}")))?
    } else {
        let value = match &args.host {
            None => list::list(&inventory, &selection.hosts),
            Some(host) if inventory.hosts.contains_key(host) => Value::Object(inventory.vars_of(host)),
            Some(host) => return Err(usage(anyhow::anyhow!("--host: no host {host:?}"))),
        };
        serde_json::to_string_pretty(&value)? + "\n"
    };
    terminal::print(|out| out.write_all(text.as_bytes()))?;
    Ok(Exit::Ok)
}
