//! Delegates: what they call, and on which object. The one place that knows their fields.
//!
//! Sources: dotnet/runtime `src/coreclr/System.Private.CoreLib/src/System/Delegate.CoreCLR.cs` and
//! `MulticastDelegate.CoreCLR.cs` (v8.0, v10.0), `src/coreclr/vm/comdelegate.cpp` ("delegate kinds table",
//! `COMDelegate::GetMethodDesc`); pull requests 99200 and 130905 for .NET 11, where one helper object stands for both the
//! list and the method, and one word for count, MethodDesc and marker.

mod shape;

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::clr::gathered::Gathered;

pub use shape::DelegateShape;

/// Most entries of one invocation list, nested ones included.
const MAX_ENTRIES: usize = 1 << 24;
/// Deepest nesting of lists followed: `Delegate.Combine` makes flat ones.
const MAX_NESTED: usize = 32;
/// Words of a method handle object in which its MethodDesc is looked for.
const HANDLE_WORDS: u64 = 12;

/// How a delegate is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DelegateKind {
    /// To a method and its first argument: `this`, a closure, the first argument of a static method.
    Closed,
    /// To a method that gets all its arguments from the call: static, or an instance method called on the first one.
    Open,
    /// To a virtual method; which override is called is decided by the first argument of each call.
    OpenVirtual,
    /// To a list of delegates.
    Multicast,
    /// Around another delegate (through 3.1).
    Wrapper,
    /// To a method made with `DynamicMethod`, closed or open.
    Dynamic,
    /// To a native function (`Marshal.GetDelegateForFunctionPointer`).
    Unmanaged,
}

impl DelegateKind {
    /// As tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::OpenVirtual => "open virtual",
            Self::Multicast => "multicast",
            Self::Wrapper => "wrapper",
            Self::Dynamic => "dynamic",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// One delegate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegate {
    /// Its address.
    pub address: u64,
    /// How it is bound.
    pub kind: DelegateKind,
    /// The object it keeps as its target: the delegate itself where the method gets none. 0 for a static method closed
    /// over null.
    pub target: u64,
    /// Where a call goes behind the shuffling of arguments: code, or a stub that leads there; the native function of an
    /// unmanaged one; the stub of a virtual call of an open virtual one.
    pub code: u64,
    /// Array of the invocation list, wrapped delegate, or the object that stands for the method; 0 when there is none.
    pub helper: u64,
    /// Entries of the list of a multicast delegate, as it says.
    pub count: u64,
    /// The MethodDesc it names itself; 0 when it names none.
    named: u64,
}

impl Delegate {
    /// The object the method is called on: `None` where it gets all its arguments from the call.
    pub fn receiver(&self) -> Option<u64> {
        Some(self.target).filter(|&t| t != 0 && t != self.address)
    }
}

/// The words of a delegate, before they are judged.
struct Raw {
    target: u64,
    code: u64,
    aux: u64,
    list: u64,
    data: u64,
    method: u64,
}

impl Clr {
    /// The fields of a delegate; why they are not known where they are not.
    pub fn delegate_shape(&self) -> Result<&DelegateShape, &str> {
        self.delegate_shape.get_or_init(|| shape::find(self)).as_ref().map_err(String::as_str)
    }

    /// Whether `mt` is a delegate type: all of them derive from `System.MulticastDelegate` itself.
    pub fn is_delegate_type(&self, mt: u64) -> bool {
        let Ok(shape) = self.delegate_shape() else { return false };
        self.valid_method_table(mt).is_some_and(|m| m.parent == shape.class && m.base_size == shape.size)
    }

    /// The delegate at `address`; `None` when there is none, or what delegates look like is not known.
    pub fn delegate(&self, address: u64) -> Option<Delegate> {
        if address == 0 || !address.is_multiple_of(4) || !self.is_delegate_type(self.object_type(address)?) {
            return None;
        }
        let shape = self.delegate_shape().ok()?;
        let word = |offset: u64| self.space().ptr(address.checked_add(offset)?);
        let raw = Raw {
            target: word(shape.target)?,
            code: word(shape.code)?,
            aux: word(shape.aux)?,
            list: word(shape.list)?,
            data: word(shape.data)?,
            method: word(shape.method)?,
        };
        Some(if self.ahead().is_some() { self.judge_ahead(address, &raw) } else { self.judge(address, &raw) })
    }

    /// Of a program compiled ahead of time: one word is what the code behind a thunk is, or the count of the list; a static
    /// method closed over an object has that beside itself (dotnet/runtime
    /// `src/coreclr/nativeaot/System.Private.CoreLib/src/System/Delegate.cs`).
    fn judge_ahead(&self, address: u64, raw: &Raw) -> Delegate {
        let mut d = Delegate {
            address,
            kind: DelegateKind::Closed,
            target: raw.target,
            code: raw.code,
            helper: 0,
            count: 0,
            named: 0,
        };
        if self.is_list(raw.list) && self.component_count(raw.list).is_some_and(|n| raw.data <= u64::from(n)) {
            (d.kind, d.helper, d.count) = (DelegateKind::Multicast, raw.list, raw.data);
        } else if raw.target == address && raw.aux != 0 {
            d.code = raw.aux;
            match raw.list {
                0 => d.kind = DelegateKind::Open,
                closed => d.target = closed,
            }
        }
        d
    }

    fn judge(&self, address: u64, raw: &Raw) -> Delegate {
        // A closed one has no second pointer; of the others the first is a thunk that moves the arguments.
        let open = raw.aux != 0;
        let code = if open { raw.aux } else { raw.code };
        let mut d = Delegate {
            address,
            kind: if open { DelegateKind::Open } else { DelegateKind::Closed },
            target: raw.target,
            code,
            helper: 0,
            count: 0,
            named: 0,
        };
        let unmanaged = if self.ptr_size() == 4 { u64::from(u32::MAX) } else { u64::MAX };
        if self.is_list(raw.list) {
            (d.kind, d.helper, d.count) = (DelegateKind::Multicast, raw.list, raw.data);
        } else if raw.data == unmanaged {
            d.kind = DelegateKind::Unmanaged;
        } else if raw.data != 0 && raw.list != address && self.is_delegate_at(raw.list) {
            (d.kind, d.helper) = (DelegateKind::Wrapper, raw.list);
        } else {
            d.named = raw.data;
            d.helper = raw.method;
            if self.is_dynamic_method(raw.method, code) {
                d.kind = DelegateKind::Dynamic;
            } else if open && self.is_virtual_call(raw.data) {
                d.kind = DelegateKind::OpenVirtual;
            }
        }
        d
    }

    /// The delegates that `d` calls, in the order of the calls: itself, or those of its list.
    pub fn invoked(&self, d: &Delegate) -> Gathered<Delegate> {
        let mut out = Gathered::default();
        self.expand(d, 0, &mut FxHashSet::default(), &mut out);
        out
    }

    fn expand(&self, d: &Delegate, depth: usize, seen: &mut FxHashSet<u64>, out: &mut Gathered<Delegate>) {
        let list = matches!(d.kind, DelegateKind::Multicast | DelegateKind::Wrapper);
        if !list {
            out.items.push(*d);
            return;
        }
        if depth > MAX_NESTED || !seen.insert(d.address) {
            out.because(format!("the list of delegate {:x} leads back to itself or is nested too deeply", d.address));
            return;
        }
        if d.kind == DelegateKind::Wrapper {
            self.entry(d, d.helper, depth, seen, out);
            return;
        }
        let room = u64::from(self.component_count(d.helper).unwrap_or(0));
        if d.count == 0 || d.count > room {
            out.because(format!("delegate {:x} counts {} entries, its list has room for {room}", d.address, d.count));
        }
        let first = d.helper.saturating_add(2 * self.header());
        for i in 0..d.count.min(room) {
            let Some(entry) = self.space().ptr_at(first, i * self.header()) else {
                out.because(format!("the list of delegate {:x} is not whole in the dump", d.address));
                return;
            };
            if out.items.len() >= MAX_ENTRIES {
                out.because(format!("only the first {MAX_ENTRIES} entries are read"));
                return;
            }
            self.entry(d, entry, depth, seen, out);
        }
    }

    fn entry(&self, of: &Delegate, entry: u64, depth: usize, seen: &mut FxHashSet<u64>, out: &mut Gathered<Delegate>) {
        match self.delegate(entry) {
            Some(e) => self.expand(&e, depth + 1, seen, out),
            None => out.because(format!("{entry:x} in the list of delegate {:x} is no delegate", of.address)),
        }
    }

    /// The method a single delegate calls; `None` for a list, a native function, and code that is not known.
    pub fn delegate_method(&self, d: &Delegate) -> Option<MethodDesc> {
        let none = matches!(d.kind, DelegateKind::Multicast | DelegateKind::Wrapper | DelegateKind::Unmanaged);
        // Compiled ahead of time there are no MethodDescs.
        if none || self.ahead().is_some() {
            return None;
        }
        let compiled = || {
            let at = self.code().at(d.code).filter(|at| at.native == 0)?;
            self.valid_method_desc(at.method?)
        };
        self.valid_method_desc(d.named)
            .or_else(|| self.method_of_stub(d.code))
            .or_else(|| self.method_of_handle(d.helper))
            .or_else(compiled)
            .or_else(|| self.method_of_entry(d.code))
            .or_else(|| self.method_of_class(self.object_type(d.receiver()?)?, d.code))
    }

    /// The name of what a delegate calls where no MethodDesc of it is in the dump: by the metadata of the precompiled code, or
    /// by the object that stands for a dynamic method.
    pub fn delegate_name(&self, d: &Delegate) -> Option<String> {
        if d.kind != DelegateKind::Dynamic {
            let at = self.code().at(d.code).filter(|at| at.native == 0)?;
            return self.code().name(&at);
        }
        let own = self.reference(d.helper, &["_name", "m_name"]);
        let name = own.or_else(|| self.reference(self.reference(d.helper, &["m_dynMethod"])?, &["m_name", "_name"]))?;
        let (_, text) = self.string_at(name, 0x400)?;
        Some(format!("DynamicClass.{text}"))
    }

    /// What a reference field of the object at `address` holds, by the first of `names` it has; `None` for null too.
    fn reference(&self, address: u64, names: &[&str]) -> Option<u64> {
        let mt = self.valid_method_table(self.object_type(address)?)?;
        let fields = self.fields(mt.address);
        let field = fields.instance.iter().find(|f| names.contains(&&*f.name))?;
        let at = address.checked_add(self.header())?.checked_add(field.offset())?;
        self.space().ptr(at).filter(|&p| p != 0)
    }

    /// Whether an array whose elements are a pointer each begins at `address`: `object[]`, or of structs of one reference.
    fn is_list(&self, address: u64) -> bool {
        let mt = self.object_type(address).and_then(|mt| self.valid_method_table(mt));
        address != 0
            && mt.is_some_and(|m| {
                m.is_sz_array() && m.component_size() == u32::from(self.ptr_size()) && m.contains_pointers()
            })
    }

    fn is_delegate_at(&self, address: u64) -> bool {
        address != 0 && self.object_type(address).is_some_and(|mt| self.is_delegate_type(mt))
    }

    /// Whether the object a delegate keeps for its method is a `DynamicMethod`. Without metadata the MethodDesc behind
    /// `code` tells.
    fn is_dynamic_method(&self, object: u64, code: u64) -> bool {
        let Some(mt) = self.object_type(object).filter(|_| object != 0).and_then(|mt| self.valid_method_table(mt))
        else {
            return false;
        };
        if self.is_unnamed(mt.address) {
            return self.method_of_stub(code).is_some_and(|m| m.is_dynamic());
        }
        let name = self.type_name(mt.address);
        matches!(
            &*name,
            "System.Reflection.Emit.DynamicMethod" | "System.Reflection.Emit.DynamicMethod+RTDynamicMethod"
        )
    }

    /// Whether `method` is a MethodDesc that an open delegate calls through its slot: one in the vtable of a class or of an
    /// interface. Since .NET 11 a delegate may name any method.
    fn is_virtual_call(&self, method: u64) -> bool {
        let Some(md) = self.valid_method_desc(method) else { return false };
        let owner = self.valid_type(md.owner);
        owner.is_some_and(|o| !md.has_own_slot() && md.slot < o.virtuals && !o.is_value_type())
    }

    /// The MethodDesc in a `DynamicMethod`'s handle: through 2.1 to 11 the only word of it that is a dynamic method.
    fn method_of_handle(&self, object: u64) -> Option<MethodDesc> {
        let owner = self.reference(object, &["m_owner", "_owner"]).unwrap_or(object);
        let handle = self.reference(owner, &["_methodHandle", "m_methodHandle"])?;
        let size = u64::from(self.valid_method_table(self.object_type(handle)?)?.base_size);
        let words = 1..(size / self.header()).min(HANDLE_WORDS);
        let method = |i: u64| self.valid_method_desc(self.space().ptr_at(handle, i * self.header())?);
        words.filter_map(method).find(MethodDesc::is_dynamic)
    }

    /// The method of `mt` or of a class above it whose code, or whose own slot, is `code`.
    fn method_of_class(&self, mt: u64, code: u64) -> Option<MethodDesc> {
        for class in self.class_chain(self.valid_method_table(mt)?.address) {
            let entry = |m: &MethodDesc| self.native_code(m) == Some(code) || self.own_slot(m) == Some(code);
            if let Some(m) = self.methods(&class).items.into_iter().find(entry) {
                return Some(m);
            }
        }
        None
    }
}
