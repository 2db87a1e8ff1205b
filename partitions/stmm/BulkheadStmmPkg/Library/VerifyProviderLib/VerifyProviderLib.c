/** @file
  OpenSSL's algorithms for StMM: those that verify a signed update of a variable (UEFI 2.11, section 8.2.6), and no others.

  Whatever OpenSSL 3 computes comes from a provider, a table of algorithms. EDK2's has ciphers, key exchange, key derivation and random
  numbers as well. They are half of the variable driver's size, which it has in the image and once more in the heap, and OpenSSL keeps a
  name and a method of each in the heap: OP-TEE, which gives StMM 402 pages of heap, has no room for that.

  MD5 is left away: no such signature is accepted since UEFI 2.3.1.
**/

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include <internal/provider.h>
#include <prov/bio.h>
#include <prov/implementations.h>
#include <prov/names.h>
#include <prov/provider_ctx.h>
#include <prov/providercommon.h>

#include <crypto/provider_local.h>

/// OpenSSL asks for algorithms by name and property; an unnamed property matches this one.
#define PROPERTY  "provider=default"
/// Reads a public key as certificates have it.
#define DECODER_PROPERTY  PROPERTY ",input=der,structure=SubjectPublicKeyInfo"

STATIC CONST OSSL_ALGORITHM  mDigests[] = {
  { PROV_NAMES_SHA1,     PROPERTY, ossl_sha1_functions   },
  { PROV_NAMES_SHA2_256, PROPERTY, ossl_sha256_functions },
  { PROV_NAMES_SHA2_384, PROPERTY, ossl_sha384_functions },
  { PROV_NAMES_SHA2_512, PROPERTY, ossl_sha512_functions },
  { NULL,                NULL,     NULL                  }
};

STATIC CONST OSSL_ALGORITHM  mSignatures[] = {
  { PROV_NAMES_RSA, PROPERTY, ossl_rsa_signature_functions },
  { NULL,           NULL,     NULL                         }
};

STATIC CONST OSSL_ALGORITHM  mKeys[] = {
  { PROV_NAMES_RSA,     PROPERTY, ossl_rsa_keymgmt_functions    },
  { PROV_NAMES_RSA_PSS, PROPERTY, ossl_rsapss_keymgmt_functions },
  { NULL,               NULL,     NULL                          }
};

STATIC CONST OSSL_ALGORITHM  mDecoders[] = {
  { PROV_NAMES_RSA,     DECODER_PROPERTY, ossl_SubjectPublicKeyInfo_der_to_rsa_decoder_functions    },
  { PROV_NAMES_RSA_PSS, DECODER_PROPERTY, ossl_SubjectPublicKeyInfo_der_to_rsapss_decoder_functions },
  { NULL,               NULL,             NULL                                                      }
};

/**
  Gets the algorithms for an operation.

  @param[in]  Provider   Not used.
  @param[in]  Operation  OSSL_OP_*.
  @param[out] NoCache    0: they stay the same.

  @return The algorithms, or NULL if there are none.
**/
STATIC
CONST OSSL_ALGORITHM *
Query (
  IN  VOID  *Provider,
  IN  int   Operation,
  OUT int   *NoCache
  )
{
  *NoCache = 0;
  switch (Operation) {
    case OSSL_OP_DIGEST:
      return mDigests;
    case OSSL_OP_SIGNATURE:
      return mSignatures;
    case OSSL_OP_KEYMGMT:
      return mKeys;
    case OSSL_OP_DECODER:
      return mDecoders;
    default:
      return NULL;
  }
}

/**
  Frees what Start() has made.

  @param[in] Provider  The provider's context.
**/
STATIC
VOID
Stop (
  IN VOID  *Provider
  )
{
  BIO_meth_free (ossl_prov_ctx_get0_core_bio_method (Provider));
  ossl_prov_ctx_free (Provider);
}

STATIC CONST OSSL_DISPATCH  mFunctions[] = {
  { OSSL_FUNC_PROVIDER_TEARDOWN,        (void (*)(void))Stop  },
  { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))Query },
  OSSL_DISPATCH_END
};

/**
  Starts the provider.

  @param[in]  Handle     OpenSSL's name for it.
  @param[in]  Core       OpenSSL's functions for providers.
  @param[out] Functions  The provider's.
  @param[out] Provider   Its context, which Stop() frees.

  @retval 1  It works.
  @retval 0  There is not enough memory, or OpenSSL lacks a function.
**/
STATIC
int
Start (
  IN  CONST OSSL_CORE_HANDLE  *Handle,
  IN  CONST OSSL_DISPATCH     *Core,
  OUT CONST OSSL_DISPATCH     **Functions,
  OUT VOID                    **Provider
  )
{
  OSSL_FUNC_core_get_libctx_fn  *GetLibraryContext;
  PROV_CTX                      *Context;
  BIO_METHOD                    *Method;

  if (ossl_prov_bio_from_dispatch (Core) == 0) {
    return 0;
  }

  GetLibraryContext = NULL;
  for ( ; Core->function_id != 0; Core++) {
    if (Core->function_id == OSSL_FUNC_CORE_GET_LIBCTX) {
      GetLibraryContext = OSSL_FUNC_core_get_libctx (Core);
    }
  }

  if (GetLibraryContext == NULL) {
    return 0;
  }

  Context = ossl_prov_ctx_new ();
  if (Context == NULL) {
    return 0;
  }

  // Decoders read through it.
  Method = ossl_bio_prov_init_bio_method ();
  if (Method == NULL) {
    ossl_prov_ctx_free (Context);
    return 0;
  }

  ossl_prov_ctx_set0_handle (Context, Handle);
  ossl_prov_ctx_set0_libctx (Context, (OSSL_LIB_CTX *)GetLibraryContext (Handle));
  ossl_prov_ctx_set0_core_bio_method (Context, Method);
  *Provider  = Context;
  *Functions = mFunctions;
  return 1;
}

/// In the place of ossl_predefined_providers: what OpenSSL falls back on, under the name that it has everywhere.
CONST OSSL_PROVIDER_INFO  gVerifyProviders[] = {
  { "default", NULL, Start, NULL, 1 },
  { NULL,      NULL, NULL,  NULL, 0 }
};

/**
  In the place of openssl_add_all_ciphers_int(), which makes the ciphers from before OpenSSL 3 known: none is needed.
**/
VOID
VerifyAddNoCiphers (
  VOID
  )
{
}
