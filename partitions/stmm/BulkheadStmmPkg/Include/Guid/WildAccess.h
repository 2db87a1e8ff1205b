/** @file
  Requests to WildAccessMm, the driver of the "wild" StMM image that touches memory it has no right to.

  The message travels in an MM communication buffer under gBulkheadWildAccessGuid, or as x4 to x7 of
  FFA_MSG_SEND_DIRECT_REQ2 to the UUID of the same text, 5a7d3c10-42f8-4b6e-8e21-9b04d6f13ac7, or is the value of a variable of that
  vendor: the layout is the same.
**/

#ifndef BULKHEAD_WILD_ACCESS_H_
#define BULKHEAD_WILD_ACCESS_H_

/// Kinds of access.
#define WILD_ACCESS_READ     0
#define WILD_ACCESS_WRITE    1
#define WILD_ACCESS_EXECUTE  2

typedef struct {
  /// One of WILD_ACCESS_*.
  UINT64    Kind;
  /// Where: aligned to 8 bytes (4 to execute).
  UINT64    Address;
  /// What to write; after a read, what was found there.
  UINT64    Value;
  /// Set to 1 when the access came back, which a contained partition never reports.
  UINT64    Survived;
} WILD_ACCESS_REQUEST;

extern EFI_GUID  gBulkheadWildAccessGuid;

#endif
