//! Stacks with weights, merged from their bottoms, and the files they are written into.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use crate::shell::quote::push_json;

/// No node below.
pub const BOTTOM: u32 = u32::MAX;

/// Format of speedscope's files.
const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// A frame above others.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The frame below it.
    pub below: u32,
    /// Its text.
    pub frame: u32,
    /// The weight of stacks that end with it.
    pub own: u64,
}

/// Stacks.
#[derive(Debug)]
pub struct Tree {
    /// What they are.
    pub name: &'static str,
    /// What their weights count, in speedscope's word.
    pub unit: &'static str,
    /// Texts of frames, each once.
    pub frames: Vec<String>,
    /// Every node comes behind the one it stands on.
    pub nodes: Vec<Node>,
    numbers: FxHashMap<String, u32>,
}

impl Tree {
    /// None yet.
    pub fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, frames: Vec::new(), nodes: Vec::new(), numbers: FxHashMap::default() }
    }

    /// The number of a frame's text.
    pub fn frame(&mut self, text: &str) -> u32 {
        if let Some(&n) = self.numbers.get(text) {
            return n;
        }
        let n = self.frames.len() as u32;
        self.frames.push(text.to_owned());
        self.numbers.insert(text.to_owned(), n);
        n
    }

    /// Adds a node.
    pub fn add(&mut self, below: u32, frame: u32, own: u64) -> u32 {
        self.nodes.push(Node { below, frame, own });
        self.nodes.len() as u32 - 1
    }

    /// Different stacks.
    pub fn samples(&self) -> u64 {
        self.nodes.iter().filter(|n| n.own > 0).count() as u64
    }

    /// The weight of all.
    pub fn total(&self) -> u64 {
        self.nodes.iter().map(|n| n.own).fold(0, u64::saturating_add)
    }

    /// Frames of the stack that ends with a node, the bottom first.
    fn stack(&self, node: &Node, frames: &mut Vec<u32>) {
        frames.clear();
        frames.push(node.frame);
        let mut below = node.below;
        while let Some(n) = self.nodes.get(below as usize) {
            frames.push(n.frame);
            below = n.below;
        }
        frames.reverse();
    }

    /// A line a stack: frames with `;` between them, a blank, the weight.
    pub fn collapsed(&self, out: &mut impl Write) -> io::Result<()> {
        // What separates frames, and lines, is no part of one.
        let clean = |text: &String| text.replace([';', '\n', '\r'], ",");
        let frames: Vec<String> = self.frames.iter().map(clean).collect();
        let mut stack = Vec::new();
        for node in self.nodes.iter().filter(|n| n.own > 0) {
            self.stack(node, &mut stack);
            for (i, frame) in stack.iter().enumerate() {
                let text = frames.get(*frame as usize).map_or("", String::as_str);
                write!(out, "{}{text}", if i > 0 { ";" } else { "" })?;
            }
            writeln!(out, " {}", node.own)?;
        }
        Ok(())
    }

    /// As a profile of speedscope; its frames begin with the number `first`.
    fn profile(&self, first: usize, out: &mut impl Write) -> io::Result<()> {
        let mut text = Vec::new();
        push_json(&mut text, self.name);
        let (name, total) = (String::from_utf8_lossy(&text), self.total());
        let unit = self.unit;
        write!(
            out,
            r#"{{"type":"sampled","name":{name},"unit":"{unit}","startValue":0,"endValue":{total},"samples":["#
        )?;
        let mut stack = Vec::new();
        for (i, node) in self.nodes.iter().filter(|n| n.own > 0).enumerate() {
            self.stack(node, &mut stack);
            write!(out, "{}[", if i > 0 { "," } else { "" })?;
            for (j, frame) in stack.iter().enumerate() {
                write!(out, "{}{}", if j > 0 { "," } else { "" }, first + *frame as usize)?;
            }
            write!(out, "]")?;
        }
        write!(out, r#"],"weights":["#)?;
        for (i, node) in self.nodes.iter().filter(|n| n.own > 0).enumerate() {
            write!(out, "{}{}", if i > 0 { "," } else { "" }, node.own)?;
        }
        write!(out, "]}}")
    }
}

/// Writes a file of speedscope with a profile for each tree.
pub fn speedscope(trees: &[Tree], name: &str, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    push_json(&mut text, name);
    let exporter = concat!("clrscope@", env!("CARGO_PKG_VERSION"));
    let name = String::from_utf8_lossy(&text).into_owned();
    write!(out, r#"{{"$schema":"{SCHEMA}","name":{name},"exporter":"{exporter}","activeProfileIndex":0,"#)?;
    write!(out, r#""shared":{{"frames":["#)?;
    for (i, frame) in trees.iter().flat_map(|t| &t.frames).enumerate() {
        text.clear();
        push_json(&mut text, frame);
        write!(out, r#"{}{{"name":{}}}"#, if i > 0 { "," } else { "" }, String::from_utf8_lossy(&text))?;
    }
    write!(out, r#"]}},"profiles":["#)?;
    let mut first = 0;
    for (i, tree) in trees.iter().enumerate() {
        write!(out, "{}", if i > 0 { "," } else { "" })?;
        tree.profile(first, out)?;
        first += tree.frames.len();
    }
    writeln!(out, "]}}")
}
