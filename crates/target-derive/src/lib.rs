//! The derive macro behind `kdive_target::Load`.

use proc_macro::TokenStream;
use quote::quote;
use syn::{
    Data, DeriveInput, Error, Fields, LitStr, Result, Token, parse_macro_input, punctuated::Punctuated,
};

/// Derives `Load`: the structure names its kernel type with `#[load(type = "task_struct")]` (several names: tried in
/// order; with `module`, modules' types are asked too), each field is `Field<T>` and stands for the member of its own name, or for the first of
/// `#[load(any("__state", "state"))]` that the kernel has. A field `at: VirtAddr` marked `#[load(address)]` gets the
/// object's address.
#[proc_macro_derive(Load, attributes(load))]
pub fn derive_load(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<proc_macro2::TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "Load is derived for structures"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "Load needs named fields"));
    };
    let (types, of_module) = type_names(input)?;
    let mut members = Vec::new();
    let mut values = Vec::new();
    for field in &fields.named {
        let Some(name) = &field.ident else { continue };
        match member_names(field)? {
            Some(names) => {
                let index = members.len();
                members.push(quote! { ::kdive_target::MemberNames(&[#(#names),*]) });
                values.push(quote! { #name: object.field(#index) });
            }
            None => values.push(quote! { #name: object.address() }),
        }
    }
    let (name, generics) = (&input.ident, &input.generics);
    Ok(quote! {
        impl #generics ::kdive_target::Load for #name #generics {
            const TYPES: &'static [&'static str] = &[#(#types),*];
            const MEMBERS: &'static [::kdive_target::MemberNames] = &[#(#members),*];
            const OF_MODULE: bool = #of_module;
            fn from_object(object: &::kdive_target::Object<'_>) -> Self {
                Self { #(#values),* }
            }
        }
    })
}

/// `#[load(type = "a")]`, or `#[load(type = "a", type = "b")]` for a type that was renamed, and whether a module may have
/// it (`#[load(type = "a", module)]`).
fn type_names(input: &DeriveInput) -> Result<(Vec<LitStr>, bool)> {
    let (mut names, mut of_module) = (Vec::new(), false);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("load")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("module") {
                of_module = true;
                return Ok(());
            }
            if !meta.path.is_ident("type") {
                return Err(meta.error("expected `type = \"...\"` or `module`"));
            }
            names.push(meta.value()?.parse()?);
            Ok(())
        })?;
    }
    if names.is_empty() {
        return Err(Error::new_spanned(&input.ident, "say which kernel type: #[load(type = \"...\")]"));
    }
    Ok((names, of_module))
}

/// The member names of a field; `None` for the object's own address.
fn member_names(field: &syn::Field) -> Result<Option<Vec<LitStr>>> {
    let mut names = Vec::new();
    let mut address = false;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("load")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("address") {
                address = true;
                return Ok(());
            }
            if !meta.path.is_ident("any") {
                return Err(meta.error("expected `any(\"...\")` or `address`"));
            }
            let content;
            syn::parenthesized!(content in meta.input);
            names.extend(Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?);
            Ok(())
        })?;
    }
    if address {
        return Ok(None);
    }
    if let (true, Some(ident)) = (names.is_empty(), &field.ident) {
        names.push(LitStr::new(&ident.to_string(), ident.span()));
    }
    Ok(Some(names))
}
