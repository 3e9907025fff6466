//! IL of methods that a program made with `DynamicMethod`: its resolver keeps the bytes and what the tokens in them name.
//!
//! Names of the fields: dotnet/runtime `src/coreclr/System.Private.CoreLib/src/System/Reflection/Emit/DynamicILGenerator.cs`
//! (`DynamicResolver`, `DynamicScope`), `DynamicMethod.CoreCLR.cs`; the same from 2.1 to 11 but for `m_resolver`, which is
//! `_resolver` since 8.0.

use super::Session;
use super::value::Value;
use crate::clr::il::names::USER_STRING;

/// Longest code read, in bytes.
const MAX_CODE: u64 = 1 << 24;
/// Longest string shown, in UTF-16 units.
const MAX_STRING: usize = 0x4000;

/// The code of a method made at run time.
#[derive(Debug, Clone)]
pub struct DynamicCode<'s> {
    /// Address of the `DynamicResolver`.
    pub resolver: u64,
    /// Its IL, without a header.
    pub code: Vec<u8>,
    /// The array of what its tokens name: a token's lower bits are the index.
    pub tokens: Option<Value<'s>>,
}

impl Session {
    /// The code of the method that the object at `address` stands for: a `DynamicMethod`, or a `DynamicResolver`; `None`
    /// for other objects.
    pub fn dynamic_code(&self, address: u64) -> Option<Result<DynamicCode<'_>, String>> {
        let object = self.value(address)?;
        let resolver = match &*object.type_name() {
            "System.Reflection.Emit.DynamicResolver" => Some(object),
            "System.Reflection.Emit.DynamicMethod" => object.object(&["_resolver", "m_resolver"]),
            "System.Reflection.Emit.DynamicMethod+RTDynamicMethod" => {
                let owner = object.object(&["_owner", "m_owner"])?;
                owner.object(&["_resolver", "m_resolver"])
            }
            _ => return None,
        };
        let Some(resolver) = resolver else {
            return Some(Err("the method was not compiled yet: it has no resolver".into()));
        };
        Some(self.code_of(resolver))
    }

    fn code_of<'s>(&'s self, resolver: Value<'s>) -> Result<DynamicCode<'s>, String> {
        let array = resolver.object(&["m_code"]).ok_or("the resolver has no m_code")?;
        let elements = array.elements().ok_or("m_code of the resolver is no array")?;
        let first = if elements.count == 0 { Some(0) } else { elements.place(0) };
        let count = elements.count.min(MAX_CODE) as usize;
        let code = first.and_then(|at| self.dump().space.bytes(at, count)).ok_or("its IL is not in the dump")?;
        let list = resolver.object(&["m_scope"]).and_then(|s| s.object(&["m_tokens"]));
        let tokens = list.and_then(|l| l.object(&["_items"]));
        Ok(DynamicCode { resolver: resolver.address(), code, tokens })
    }
}

impl DynamicCode<'_> {
    /// What a token names, as SOS prints it: the token and the name, or the address of the object that stands for it.
    pub fn name(&self, session: &Session, token: u32) -> String {
        let index = u64::from(token & 0x00FF_FFFF);
        let object = self.tokens.and_then(|t| t.elements()).filter(|e| index < e.count).and_then(|e| e.object(index));
        let Some(object) = object else { return format!("{token:x} (not in the table of tokens)") };
        let named = self.named(session, &object, token);
        named.unwrap_or_else(|| format!("{token:x} ({:x}) {}", object.address(), object.type_name()))
    }

    fn named(&self, session: &Session, object: &Value<'_>, token: u32) -> Option<String> {
        let clr = session.clr().ok()?;
        if (token >> 24) as u8 == USER_STRING {
            let (_, text) = clr.string_at(object.address(), MAX_STRING)?;
            return Some(format!("{token:x} \"{text}\""));
        }
        let method = |md: u64| clr.valid_method_desc(md).map(|md| clr.method_name(&md));
        let text = match &*object.type_name() {
            "System.RuntimeTypeHandle" => {
                let handle = object.object(&["m_type"])?.pointer(&["m_handle"])?;
                format!("\"{}\"", clr.handle_tree(handle).reflection())
            }
            "System.RuntimeMethodHandle" => method(method_of(&object.object(&["m_value"])?)?)?,
            "System.Reflection.Emit.GenericMethodInfo" => {
                let inner = object.inner(&["m_methodHandle"])?;
                method(method_of(&inner.object(&["m_value"])?)?)?
            }
            "System.Reflection.Emit.DynamicMethod" => {
                let name = object.pointer(&["_name", "m_name"])?;
                format!("({:x}) DynamicClass.{}", object.address(), clr.string_at(name, MAX_STRING)?.1)
            }
            _ => return None,
        };
        Some(format!("{token:x} {text}"))
    }
}

/// The MethodDesc of a `RuntimeMethodInfo`, `RuntimeConstructorInfo` or `RuntimeMethodInfoStub`.
fn method_of(info: &Value<'_>) -> Option<u64> {
    if let Some(handle) = info.inner(&["m_value"]) {
        return handle.pointer(&["m_handle", "value", "Value"]).or_else(|| handle.pointer(&["m_value"]));
    }
    info.pointer(&["m_handle", "m_value"])
}
