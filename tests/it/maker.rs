//! Makes up values of any wire type: a deserializer that reads from chance.
//!
//! It sees every variant and every field, so a new one is covered without a word here.

use rand::RngExt;
use serde::de::value::{Error, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::chance::Chance;

/// Texts that some field wants to read; the rest is up to chance.
const TEXTS: [&str; 7] = ["", "64KiB", "storage", "queue-service", "http://a/b", "k/é/🦀", "7"];

pub struct Maker<'a> {
    chance: &'a mut Chance,
    /// Bytes that may still be used up.
    left: usize,
    large: bool,
    /// The variant of the outermost enum.
    top: Option<u32>,
    /// How many variants the outermost enum has, once it was met.
    variants: Option<usize>,
}

/// A value of some type; of the variant `top`, where it is an enum. `None` where chance did not hit
/// on one in many attempts.
pub fn make<T: DeserializeOwned>(chance: &mut Chance, top: Option<u32>, large: bool) -> Option<T> {
    let left = if large { 256 * 1024 } else { 4096 };
    (0..300)
        .find_map(|_| T::deserialize(&mut Maker { chance, left, large, top, variants: None }).ok())
}

/// How many variants a type has; 1 where it is no enum.
pub fn variants_of<T: DeserializeOwned>(chance: &mut Chance) -> usize {
    let mut maker = Maker { chance, left: 4096, large: false, top: Some(0), variants: None };
    let _ = T::deserialize(&mut maker); // the count is known whatever came of it
    maker.variants.unwrap_or(1)
}

impl Maker<'_> {
    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    fn text(&mut self) -> String {
        if self.large && self.chance.one_in(3) {
            return "x".repeat(std::mem::take(&mut self.left));
        }
        let text = match self.chance.below(6) {
            0 | 1 => String::from_utf8_lossy(&self.chance.bytes(20)).into_owned(),
            2 => (*self.chance.pick(&TEXTS)).to_owned(),
            _ => "1s".to_owned(), // spans of time are the most demanding
        };
        self.take(8 + text.len());
        text
    }

    fn length(&mut self) -> usize {
        match self.large && self.chance.one_in(2) {
            true => usize::MAX, // until the bytes are used up
            false => self.chance.below(4),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.take(size_of::<$type>());
            visitor.$visit(self.chance.number() as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Maker<'_> {
    type Error = Error;

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64, deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64
    );

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.take(16);
        visitor.visit_u128(self.chance.dice.random())
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.take(16);
        visitor.visit_i128(self.chance.dice.random())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.take(1);
        visitor.visit_bool(self.chance.one_in(2))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_char('é')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_byte_buf(self.text().into_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_byte_buf(self.text().into_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.take(1);
        match self.chance.one_in(3) {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let rest = self.length();
        self.take(8);
        visitor.visit_seq(Items { maker: self, rest, fixed: false })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        rest: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { maker: self, rest, fixed: true })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        rest: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { maker: self, rest, fixed: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let rest = self.length();
        visitor.visit_map(Items { maker: self, rest, fixed: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { maker: self, rest: fields.len(), fixed: true })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.take(4);
        self.variants.get_or_insert(variants.len());
        let chosen = self.top.take().unwrap_or_else(|| self.chance.below(variants.len()) as u32);
        visitor.visit_enum(Variant { maker: self, chosen })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.chance.number())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a wire type must not ask what comes"))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Items<'m, 'a> {
    maker: &'m mut Maker<'a>,
    rest: usize,
    /// Whether the number is given by the type.
    fixed: bool,
}

impl Items<'_, '_> {
    fn more(&mut self) -> bool {
        let more = self.rest > 0 && (self.fixed || self.maker.left > 0);
        self.rest = self.rest.saturating_sub(1);
        more
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if !self.more() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.maker).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next_element_seed(seed)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.maker)
    }
}

struct Variant<'m, 'a> {
    maker: &'m mut Maker<'a>,
    chosen: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Error;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index: U32Deserializer<Error> = self.chosen.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.maker)
    }
    fn tuple_variant<V: Visitor<'de>>(self, rest: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { maker: self.maker, rest, fixed: true })
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { maker: self.maker, rest: fields.len(), fixed: true })
    }
}
