// What the DWARF tests compile. Run, it prints what its compiler made of it: the truth that the reader is held to.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct list { struct list *next, *prev; };

struct plain {
    char first;
    short second;
    long third;
    unsigned char grid[3][5];
    struct list links;
    void (*call)(const char *format, ...);
    int tail[];
};

struct bits {
    unsigned int a : 3;
    unsigned int b : 9;
    int c : 5;
    unsigned long d : 33;
    _Bool e : 1;
    unsigned char f : 2;
};

struct nested {
    int before;
    union {
        long wide;
        struct { short low, high; };
        struct plain *far;
    };
    struct { int x, y; } point;
    const volatile char *const restrict_me;
    struct never_defined *hidden;
};

union either { int number; char bytes[6]; double real; };

enum color { RED, GREEN = 7, BLUE = -3 };
enum mask { LOW = 1u, HIGH = 0x80000000u };
enum { NAMELESS = 42 } the_nameless;

typedef unsigned long word_t;
typedef struct { word_t a; float b; } unnamed_t;
typedef int (*handler_t)(struct plain *restrict self, word_t count, ...);

struct plain *the_plain;
struct bits the_bits;
struct nested the_nested;
union either the_either;
enum color the_color;
enum mask the_mask;
unnamed_t the_unnamed;
handler_t the_handler;
_Atomic int the_counter;
extern long the_array[];
long the_array[4];
volatile int sink;
const char *the_names[2][3];

static inline __attribute__((always_inline)) int innermost(int value) {
    __asm__ volatile(".globl here\nhere: nop");
    return value + 1;
}

static inline __attribute__((always_inline)) int between(int value) {
    int doubled = value * 2;
    return innermost(doubled) - 3;
}

__attribute__((noinline)) int outermost(int argument, struct plain *pointer) {
    int local = argument + 5;
    long other[3] = { argument, 2, 3 };
    char *cfa = __builtin_dwarf_cfa();
    if (argument > 0) {
        int in_block = argument * 3;
        sink = in_block;
        printf("cfa in_block %td\n", (char *)&in_block - cfa);
        sink += between(local);
    }
    printf("cfa argument %td\n", (char *)&argument - cfa);
    printf("cfa pointer %td\n", (char *)&pointer - cfa);
    printf("cfa local %td\n", (char *)&local - cfa);
    printf("cfa other %td\n", (char *)&other - cfa);
    return local + (int)other[1] + (pointer != 0);
}

#define MEMBER(record, member) printf("member %s %s %zu\n", #record, #member, offsetof(struct record, member))
#define SIZE(type) printf("size %s %zu\n", #type, sizeof(type))
// The first and the number of the bits that a field of all ones sets, counted as the machine is little-endian.
#define BITS(member) do { \
    struct bits field; \
    memset(&field, 0, sizeof field); \
    field.member = -1; \
    int first = -1, count = 0; \
    for (size_t bit = 0; bit < 8 * sizeof field; bit++) \
        if (((unsigned char *)&field)[bit / 8] >> bit % 8 & 1) { first = first < 0 ? (int)bit : first; count++; } \
    printf("bits %s %d %d\n", #member, first, count); \
} while (0)

int main(void) {
    SIZE(struct plain); SIZE(struct bits); SIZE(struct nested); SIZE(union either); SIZE(unnamed_t);
    SIZE(enum color); SIZE(enum mask); SIZE(word_t);
    MEMBER(plain, second); MEMBER(plain, third); MEMBER(plain, grid); MEMBER(plain, links.prev);
    MEMBER(plain, grid[2][3]); MEMBER(plain, call); MEMBER(plain, tail);
    MEMBER(nested, before); MEMBER(nested, wide); MEMBER(nested, high); MEMBER(nested, point.y);
    MEMBER(nested, hidden);
    BITS(a); BITS(b); BITS(c); BITS(d); BITS(f);
    return outermost(3, the_plain) == 0;
}
