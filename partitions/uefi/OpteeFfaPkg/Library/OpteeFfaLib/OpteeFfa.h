/** @file
  OP-TEE's messages over FF-A, and what the parts of this library have in common.

  The layouts and numbers are OP-TEE's (optee_ffa.h, optee_msg.h, optee_rpc_cmd.h). Its message structure is the one of
  EDK2's OpteeLib.h; a memory parameter there holds under FF-A an offset, a size, and the handle of shared memory.
**/

#ifndef OPTEE_FFA_H_
#define OPTEE_FFA_H_

#include <Uefi.h>

#include <Library/OpteeLib.h>

/// Registers x0 to x7.
typedef struct {
  UINT64    X[8];
} FFA_REGISTERS;

/// What w3 to w7 of a direct message carry.
typedef struct {
  UINT32    W[5];
} OPTEE_REGISTERS;

//
// Services: w3 of a request
//
#define OPTEE_FFA_GET_API_VERSION         0x00000000
#define OPTEE_FFA_EXCHANGE_CAPABILITIES   0x00000002
#define OPTEE_FFA_UNREGISTER_SHM          0x00000003
#define OPTEE_FFA_YIELDING_CALL_WITH_ARG  0x80000000
#define OPTEE_FFA_YIELDING_CALL_RESUME    0x80000001

#define OPTEE_FFA_VERSION_MAJOR  1

//
// Why a yielding call came back: w4 of the answer
//
#define OPTEE_FFA_RETURN_DONE       0
#define OPTEE_FFA_RETURN_RPC        1
#define OPTEE_FFA_RETURN_INTERRUPT  2

//
// Messages
//
#define OPTEE_COMMAND_OPEN_SESSION     0
#define OPTEE_COMMAND_INVOKE_FUNCTION  1
#define OPTEE_COMMAND_CLOSE_SESSION    2

#define OPTEE_ATTRIBUTE_META  0x100

/// A memory parameter is 9 to 11 in OpteeLib.h, and 5 to 7 with shared memory of FF-A.
#define OPTEE_ATTRIBUTE_FFA_MEMORY     4
#define OPTEE_ATTRIBUTE_FFA_OUTPUT     (OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_OUTPUT - OPTEE_ATTRIBUTE_FFA_MEMORY)
/// The handle of a memory parameter that has no memory.
#define OPTEE_FFA_NO_MEMORY  MAX_UINT64

/// Bytes of a message with this many parameters.
#define OPTEE_MESSAGE_SIZE(NumParams)  (OFFSET_OF (OPTEE_MESSAGE_ARG, Params) + (NumParams) * sizeof (OPTEE_MESSAGE_PARAM))

//
// Requests of OP-TEE's to the normal world
//
#define OPTEE_RPC_LOAD_TA       0
#define OPTEE_RPC_FS            2
#define OPTEE_RPC_GET_TIME      3
#define OPTEE_RPC_NOTIFICATION  4
#define OPTEE_RPC_SUSPEND       5
#define OPTEE_RPC_SHM_ALLOC     6
#define OPTEE_RPC_SHM_FREE      7

#define OPTEE_RPC_NOTIFICATION_WAIT  0

//
// Results
//
#define TEE_ERROR_STORAGE_NOT_AVAILABLE  0xF0100003
#define TEE_ERROR_BAD_PARAMETERS         0xFFFF0006
#define TEE_ERROR_ITEM_NOT_FOUND         0xFFFF0008
#define TEE_ERROR_NOT_SUPPORTED          0xFFFF000A
#define TEE_ERROR_OUT_OF_MEMORY          0xFFFF000C
#define TEE_ERROR_BUSY                   0xFFFF000D

/// Memory shared with OP-TEE.
typedef struct {
  UINT8                   *Address; ///< Where this module sees it; converted at SetVirtualAddressMap.
  EFI_PHYSICAL_ADDRESS    Physical;
  UINT32                  Pages;
  UINT64                  Handle;
  BOOLEAN                 Shared;
  BOOLEAN                 Used;     ///< OP-TEE has it by OPTEE_RPC_SHM_ALLOC.
} OPTEE_SHARED_MEMORY;

/// The message and its parameters' buffers.
#define OPTEE_CALL_MEMORY   0
/// The first of those that OP-TEE may ask for.
#define OPTEE_RPC_MEMORY    1
#define OPTEE_MEMORY_COUNT  3

/// A page for the message, the others for buffers.
#define OPTEE_CALL_PAGES  9
#define OPTEE_RPC_PAGES   4

extern OPTEE_SHARED_MEMORY  mOpteeMemory[OPTEE_MEMORY_COUNT];

/**
  Makes an FF-A call.

  @param[in, out] Registers  x0 to x7.
**/
VOID
EFIAPI
FfaCall (
  IN OUT FFA_REGISTERS  *Registers
  );

/**
  Sends OP-TEE a request and waits for its answer.

  @param[in, out] Message  The request; then the answer.

  @retval EFI_SUCCESS       There is an answer.
  @retval EFI_ABORTED       OP-TEE has ended.
  @retval EFI_TIMEOUT       OP-TEE serves others.
  @retval EFI_DEVICE_ERROR  The SPMC refuses the request.
**/
EFI_STATUS
OpteeFfaRequest (
  IN OUT OPTEE_REGISTERS  *Message
  );

/**
  Allocates memory and shares it with OP-TEE.

  @param[in] Self    This endpoint.
  @param[in] Optee   OP-TEE.

  @retval EFI_SUCCESS           mOpteeMemory can be used.
  @retval EFI_OUT_OF_RESOURCES  There is no memory, or the SPMC has no room for the transaction.
  @return Otherwise the SPMC's refusal.
**/
EFI_STATUS
OpteeFfaShareMemory (
  IN UINT16  Self,
  IN UINT16  Optee
  );

/**
  Takes all memory back from OP-TEE. Boot time only.

  @retval TRUE   OP-TEE sees nothing of it any more.
  @retval FALSE  The SPMC did not give something back.
**/
BOOLEAN
OpteeFfaReclaimMemory (
  VOID
  );

//
// What differs between boot-time and run-time modules
//

/// Of what kind shared memory is.
extern CONST EFI_MEMORY_TYPE  gOpteeFfaMemoryType;

/**
  Registers for the event at which memory has to be taken back, or its address changes.

  @param[out] Event  The registration.

  @return As CreateEventEx.
**/
EFI_STATUS
OpteeFfaRegisterEvent (
  OUT EFI_EVENT  *Event
  );

/**
  The time of day.

  @param[out] Time  The time.

  @return As the run-time service.
**/
EFI_STATUS
OpteeFfaGetTime (
  OUT EFI_TIME  *Time
  );

#endif
